"""The number of data workers changes nothing of a run (G14)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

if sys.platform != "linux":
    pytest.skip("processes as Linux has them", allow_module_level=True)


# torch warns of more workers than the machine has cores.
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_a_recipe_has_one_hash_for_0_1_and_4_workers_and_without_streaming(train: Callable[..., Any]) -> None:
    changes = [
        'data.augment=[{use="mixup"}]',
        "model.dropout=0.2",
        "run.accumulate=2",
        "run.duration=1ep",
        "run.threads=1",
    ]
    ended = [train(*changes, 'data.loading="streamed"', f"data.workers={workers}") for workers in (0, 1, 4)]
    for finished in ended:
        finished.run.feed.close()  # torch waits seconds for each worker that is still there when Python ends
    ended.append(train(*changes, 'data.loading="resident"'))
    assert len({finished.report.weights_sha256 for finished in ended}) == 1
    assert len({str([{**line, "time": 0} for line in finished.lines]) for finished in ended}) == 1
    other = train(*changes, "seed=6")
    assert other.report.weights_sha256 != ended[0].report.weights_sha256
