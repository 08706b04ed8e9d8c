"""What every logger keeps."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import tempfile
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from trainkit.component import Component
from trainkit.hooking import hook_names
from trainkit.testing.build import made
from trainkit.testing.contract import Contract
from trainkit.testing.ended import Whole
from trainkit.testing.kept import once_for_each
from trainkit.testing.whole import again, interrupted, straight, untouched

PLANTED = "planted by the contract"
# Whoever implements one of them decides something of the run.
DECIDING = ("trainkit_parameter_groups", "trainkit_train_step", "trainkit_loss", "trainkit_stop_reason")
STOPS = (1, 3)  # within an epoch, and at its end
OPEN_FILES = Path("/proc/self/fd")  # of Linux; elsewhere nobody says what is open


class LoggerContract(Contract):
    """A logger writes about a run, and changes nothing of it, whatever becomes of the logger."""

    kind = "logger"

    def test_changes_nothing(self, component: Component) -> None:
        """The run with it has the figures and weights of the run without it, bit for bit."""
        plain, run = untouched(), watched(component).run
        assert run.report.weights_sha256 == plain.report.weights_sha256, (
            f"logger '{component.name}': the run ends with other weights than without it; a logger draws no random "
            "numbers, and changes neither model nor optimizer"
        )
        assert len(run.lines) == len(plain.lines), f"logger '{component.name}': the run has other lines than without it"
        for own, other in zip(plain.lines, run.lines, strict=True):
            changed = {key: (value, other.get(key)) for key, value in own.items() if other.get(key) != value}
            assert not changed, f"logger '{component.name}': changes figures of metrics.jsonl: {changed}"

    def test_decides_nothing(self, component: Component) -> None:
        """It implements no hook that makes an update, groups parameters or ends a run: that is a callback."""
        logger = made(component)
        decides = [name for name in DECIDING if hasattr(type(logger), name)]
        assert not decides, (
            f"logger '{component.name}' implements {', '.join(decides)}; a component that does is a callback"
        )

    def test_may_fail(self, component: Component, monkeypatch: pytest.MonkeyPatch) -> None:
        """The run ends as without it where every hook of it fails, after it has done what it does."""
        watched(component)
        kind = type(made(component))
        for name in hook_names():
            if (hook := getattr(kind, name, None)) is not None:
                monkeypatch.setattr(kind, name, _failing(hook))
        what = f"logger '{component.name}': where it fails the run"
        try:
            report = again(component).report
        except AssertionError as error:
            raise AssertionError(f"{what} fails too: {error.__cause__}") from error
        assert report.status == "finished", f"{what} ends as {report.status}: {report.reason}"
        assert report.weights_sha256 == untouched().report.weights_sha256, f"{what} has other weights in the end"

    def test_closes_what_it_opens(self, component: Component) -> None:
        """After the run it has no thread, process or file open."""
        seen = watched(component)
        what, cure = f"logger '{component.name}'", "close it in trainkit_run_end"
        assert not seen.threads, f"{what}: a thread goes on after the run ({', '.join(seen.threads)}); {cure}"
        assert not seen.processes, f"{what}: a process goes on after the run ({', '.join(seen.processes)}); {cure}"
        assert not seen.open, f"{what}: {', '.join(seen.open)} is still open after the run; {cure}"

    def test_writes_into_the_run_folder(self, component: Component) -> None:
        """No file appears but in the run folder: not where the program was started, nor in the home folder."""
        strewn = watched(component).strewn
        assert not strewn, (
            f"logger '{component.name}' leaves {', '.join(strewn)} where the program was started, or in the home "
            "folder; files go into run.folder"
        )

    def test_a_continued_run_goes_on_with_it(self, component: Component) -> None:
        """A run that is stopped and continued is the one that was not, also in what the logger adds to its lines."""
        whole = watched(component).run
        assert not whole.seen.mute, (
            f"logger '{component.name}' sees the training, and does not say what it keeps: implement trainkit_save and "
            "trainkit_restore, or say stateless = True"
        )
        different = whole.difference(interrupted(component, STOPS))
        assert not different, (
            f"logger '{component.name}', in a run in one go and in one that was stopped and continued: {different}; "
            "save what it keeps in trainkit_save, and take it back in trainkit_restore"
        )


@dataclass(frozen=True)
class Watched:
    """A run with a logger, and what the logger has left.

    Args:
        run: the run, in one go.
        threads: that go on, by name.
        processes: that go on, by name.
        open: files that are open, by name.
        strewn: files where the program was started and in the home folder, by name.
    """

    run: Whole
    threads: list[str]
    processes: list[str]
    open: list[str]
    strewn: list[str]


@once_for_each
def watched(component: Component) -> Watched:
    """The run of the logger's example, made once for all contracts."""
    untouched()
    with tempfile.TemporaryDirectory() as place:
        folder, started, home = (Path(place, name) for name in ("runs", "started", "home"))
        for one in (folder, started, home):
            one.mkdir()
        with (
            contextlib.chdir(started),
            mock.patch.dict(os.environ, {"HOME": str(home)}),
            mock.patch.object(tempfile, "tempdir", str(folder)),
        ):
            threads, files = set(threading.enumerate()), _open_files()
            run = straight(component)
            left = [Path(file.removesuffix(" (deleted)")).name for file in _open_files() - files if place in file]
            return Watched(
                run,
                [thread.name for thread in threading.enumerate() if thread not in threads],
                [child.name for child in multiprocessing.active_children()],
                sorted(left),
                [path.name for at in (started, home) for path in at.rglob("*") if _strewn(path)],
            )


def _strewn(path: Path) -> bool:
    """Whether this is a file to complain of: libraries make empty folders where they look for settings, and caches."""
    return path.is_file() and ".cache" not in path.parts


def _failing(hook: Callable[..., Any]) -> Callable[..., Any]:
    """The hook, which raises when it has done its work."""
    if getattr(hook, "trainkit_impl", {}).get("wrapper"):

        @functools.wraps(hook)
        def around(*given: Any, **named: Any) -> Generator[None, Any, Any]:
            yield from hook(*given, **named)
            raise OSError(PLANTED)

        return around

    @functools.wraps(hook)
    def call(*given: Any, **named: Any) -> Any:
        hook(*given, **named)
        raise OSError(PLANTED)

    return call


def _open_files() -> set[str]:
    found = set()
    for link in OPEN_FILES.iterdir() if OPEN_FILES.is_dir() else ():
        try:
            found.add(os.readlink(link))
        except OSError:  # that by which the folder was read
            continue
    return found
