"""Searches that were never made: a formula says what came of each trial."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainkit.space import Dimension, Space
from trainkit.trial import Objective, Record, Study, Trial

RATE = Dimension("optimizer.lr", "float", 1e-4, 1.0, "log")
SIZE = Dimension("model.widths.0", "int", 4, 64)
CHOICE = Dimension("schedule.use", "choice", choices=("cosine", "linear"))
BETA = Dimension("optimizer.betas.1", "float", 0.9, 0.999, "logit")
ACCURACY = (Objective("val.accuracy", "max"),)
BOTH = (*ACCURACY, Objective("parameters"))


def searched(
    folder: Path,
    value: Callable[[Mapping[str, Any], int], tuple[float, ...]],
    space: Sequence[Dimension] = (RATE, SIZE, CHOICE, BETA),
    objectives: tuple[Objective, ...] = ACCURACY,
    trials: int = 30,
) -> Study:
    """A random search over a formula, with a log of its own; where the formula gives nothing, the trial failed."""
    chance = random.Random(1)
    study = Study(folder, "random", Space(tuple(space)), objectives, trials, 0)
    events: list[dict[str, Any]] = [{"event": "study", "time": 0.0}]
    for number in range(trials):
        point = study.space.at([chance.random() for _ in space])
        figures = value(point, number)
        values = tuple(-f if o.mode == "max" else f for f, o in zip(figures, objectives, strict=False))
        reports = [(share, values[0] + 1 - share) for share in (0.5, 1.0)] if values else []
        trial = Trial(number, point, "done" if figures else "nan", values, reports, trained=1.0)
        study.records.append(Record(trial, figures, seconds=2.0, epochs=1.0, message="" if figures else "loss is nan"))
        kind = {"event": "done"} if figures else {"event": "fail", "status": "nan"}
        events.append({**kind, "trial": number, "seconds": 2.0, "time": 2.0 * (number + 1)})
    events.append({"event": "end", "reason": f"all {trials} trials made", "time": 2.0 * trials})
    folder.mkdir(exist_ok=True)
    (folder / "study.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return study
