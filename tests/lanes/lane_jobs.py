"""Jobs that train in milliseconds, and what their run folders hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainkit.work import Job

PARTS = Path(__file__).parent / "trainkit_lane_job_parts.py"
# 116 training samples: 8 updates an epoch, the last one of 4 samples.
RECIPE = """\
recipe = 1
seed = {seed}
logger = []
[run]
duration = "{epochs}ep"
device = "cpu"
threads = 1
save_every = "1dur"
save_best = false
{run}
[data]
use = "synthetic"
samples = 192
features = [6]
batch_size = 16
{data}
[model]
use = "mlp"
widths = [{width}]
{model}
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
use = "sgd"
lr = {lr}
momentum = 0.9
{more}
"""
_GIVEN = {"seed": 5, "epochs": 3, "width": 8, "lr": 0.1, "run": "", "data": "", "model": "", "more": ""}


def recipe(**values: Any) -> str:
    """The recipe with other values."""
    return RECIPE.format(**(_GIVEN | values))


def lines_of(job: Job) -> list[dict[str, Any]]:
    """``metrics.jsonl`` of a job, without times."""
    path = job.folder / "metrics.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [{key: value for key, value in json.loads(line).items() if key != "time"} for line in text.splitlines()]


def report_of(job: Job) -> dict[str, Any]:
    """``report.json`` of a job, without times."""
    report: dict[str, Any] = json.loads((job.folder / "report.json").read_text(encoding="utf-8"))
    return {key: value for key, value in report.items() if key != "seconds"}


def names_of(job: Job) -> list[str]:
    """Every file of a run folder."""
    return sorted(str(path.relative_to(job.folder)) for path in job.folder.rglob("*"))
