"""The most memory that a run has taken: of a CUDA device, with stand-ins for its counters, and of the process."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch

from trainkit import Report
from trainkit.memory import memory_line, peak_memory, peak_resident, watch_memory
from trainkit.report.run_page import facts_of

PEAK = {"allocated": 1_500_000_000, "reserved": 2_000_000_000}


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: asked.append(f"reset {device}"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: PEAK["allocated"])
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: PEAK["reserved"])
    return asked


def test_peaks_are_those_of_a_cuda_device_alone(counters: list[str]) -> None:
    for kind in ("cpu", "cuda:1"):
        watch_memory(torch.device(kind))
    assert counters == ["reset cuda:1"]
    assert peak_memory(torch.device("cpu")) is None
    assert peak_memory(torch.device("cuda:1")) == PEAK


def test_a_report_has_memory_only_where_it_was_counted() -> None:
    def report(memory: dict[str, int] | None) -> dict[str, object]:
        return Report("finished", "", 1, 1.0, 0.1, {}, None, "", memory=memory).as_dict()

    assert "memory" not in report(None)
    assert report(PEAK)["memory"] == PEAK


def test_a_profile_tells_the_memory_of_the_process_and_of_the_device(train) -> None:
    resident = peak_resident()
    assert resident is not None
    held = torch.ones(50_000_000)  # 200 MB more than there were, or what was there before
    assert peak_resident() >= max(resident, held.nbytes)
    assert re.fullmatch(r"memory, at most: [\d,]+ MB of this process", memory_line(None))
    assert memory_line(PEAK).startswith("memory, at most: 1,500 MB in tensors on the device, 2,000 MB reserved; ")
    assert train("run.duration=1ba").report.memory is None


def test_the_page_of_a_run_shows_what_was_taken_of_the_device() -> None:
    summary = SimpleNamespace(best={}, updates=1, epochs=1.0, seconds=1.0, pace=None, samples=None)
    facts = {
        given: dict(facts_of(SimpleNamespace(report=report, environment={}, tables={}), summary))
        for given, report in (("cuda", {"memory": PEAK}), ("cpu", {}), ("broken", {"memory": "much"}))
    }
    assert facts["cuda"]["memory of the device, allocated"] == "1,500 MB"
    assert facts["cuda"]["memory of the device, reserved"] == "2,000 MB"
    assert not [name for given in ("cpu", "broken") for name in facts[given] if "memory" in name]
