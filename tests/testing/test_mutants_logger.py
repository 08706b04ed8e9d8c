"""Each contract of loggers catches a logger that breaks it."""

from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from tests.testing.mutants import Mutant, lacking
from trainkit import Component, Metrics, Run, hookimpl
from trainkit.testing import LoggerContract


class Counted:
    """Writes how many updates it has seen, and says so in the lines."""

    def __init__(self) -> None:
        self.seen = 0
        self.file: IO[str] | None = None

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.file = (run.folder / "counted.txt").open("a", encoding="utf-8")

    @hookimpl
    def trainkit_step_end(self) -> None:
        self.seen += 1

    @hookimpl
    def trainkit_figures(self) -> Metrics | None:
        return {"counted": float(self.seen)}

    @hookimpl
    def trainkit_save(self) -> dict[str, Any] | None:
        return {"seen": self.seen}

    @hookimpl
    def trainkit_restore(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]

    @hookimpl
    def trainkit_run_end(self) -> None:
        assert self.file is not None
        self.file.write(f"{self.seen}\n")
        self.file.close()


class Drawing(Counted):
    @hookimpl
    def trainkit_step_end(self) -> None:
        self.seen += 1
        torch.rand(1)


class Ending(Counted):
    @hookimpl
    def trainkit_stop_reason(self) -> str | None:
        return "enough"


class OldStyle(Counted):
    """What pluggy's older wrappers raise, nobody catches."""

    @hookimpl(hookwrapper=True)
    def trainkit_evaluate(self) -> Generator[None, Any, None]:
        yield


class Open(Counted):
    @hookimpl
    def trainkit_run_end(self) -> None:
        """Leave the file open."""
        KEPT.append(self.file)


KEPT: list[Any] = []


class Going(Counted):
    """Leaves a thread behind, for a moment."""

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.file = (run.folder / "counted.txt").open("a", encoding="utf-8")
        threading.Timer(0.5, str).start()


class Littering(Counted):
    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.file = open("counted.txt", "a", encoding="utf-8")  # noqa: SIM115  # closed in the end


class Mute(Counted):
    """Keeps a count, and saves none."""

    trainkit_save = None  # type: ignore[assignment]
    trainkit_restore = None  # type: ignore[assignment]


class Forgetting(Counted):
    @hookimpl
    def trainkit_restore(self, state: dict[str, Any]) -> None:
        """Begin at zero."""


def logger(kind: type[Counted]) -> Component:
    def factory() -> Counted:
        """Count updates."""
        return kind()

    return Component("logger", factory, f"of_{kind.__name__.lower()}")


HEALTHY = logger(Counted)
MUTANTS = [
    Mutant(LoggerContract, name, defect, HEALTHY, because)
    for name, defect, because in (
        ("changes_nothing", logger(Drawing), "the run ends with other weights than without it"),
        ("decides_nothing", logger(Ending), "implements trainkit_stop_reason; a component that does is a callback"),
        ("may_fail", logger(OldStyle), "where it fails the run fails too"),
        ("closes_what_it_opens", logger(Open), "counted.txt is still open after the run"),
        ("closes_what_it_opens", logger(Going), "a thread goes on after the run"),
        ("writes_into_the_run_folder", logger(Littering), "leaves counted.txt where the program was started"),
        ("a_continued_run_goes_on_with_it", logger(Mute), "does not say what it keeps"),
        ("a_continued_run_goes_on_with_it", logger(Forgetting), "counted of line .* save what it keeps"),
    )
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_contract_catches(mutant: Mutant, tmp_path: Path) -> None:
    mutant.check(tmp_path)
    for file in KEPT:
        file.close()
    KEPT.clear()


def test_no_contract_lacks_a_planted_defect() -> None:
    assert not lacking(LoggerContract, MUTANTS)
