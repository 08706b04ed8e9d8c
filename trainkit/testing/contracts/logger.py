"""What every logger keeps."""

from __future__ import annotations

import functools
import multiprocessing
import os
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from trainkit.component import Component
from trainkit.errors import TrainkitError
from trainkit.hooking import hook_names
from trainkit.testing.build import made, plugins_of
from trainkit.testing.contract import Contract
from trainkit.testing.tiny import TinyRun, run_tiny, table_of
from trainkit.testing.whole import interrupted, straight

PLANTED = "planted by the contract"
# Whoever implements one of them decides something of the run.
DECIDING = ("trainkit_parameter_groups", "trainkit_train_step", "trainkit_loss", "trainkit_stop_reason")
OPEN_FILES = Path("/proc/self/fd")  # of Linux; elsewhere nobody says what is open


class LoggerContract(Contract):
    """A logger writes about a run, and changes nothing of it, whatever becomes of the logger."""

    kind = "logger"

    def test_changes_nothing(self, component: Component, tmp_path: Path) -> None:
        """The run with it has the figures and weights of the run without it, bit for bit."""
        plain, run = _trained(component, tmp_path, False), _trained(component, tmp_path, True)
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

    def test_may_fail(self, component: Component, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The run ends as without it where every hook of it fails, after it has done what it does."""
        plain = _trained(component, tmp_path, False)
        kind = type(made(component))
        for name in hook_names():
            if (hook := getattr(kind, name, None)) is not None:
                monkeypatch.setattr(kind, name, _failing(hook))
        what = f"logger '{component.name}': where it fails the run"
        try:
            run = _trained(component, tmp_path, True)
        except TrainkitError as error:
            raise AssertionError(f"{what} fails too: {error}") from error
        assert run.report.status == "finished", f"{what} ends as {run.report.status}: {run.report.reason}"
        assert run.report.weights_sha256 == plain.report.weights_sha256, f"{what} has other weights in the end"

    def test_closes_what_it_opens(self, component: Component, tmp_path: Path) -> None:
        """After the run it has no thread, process or file open."""
        before, files = set(threading.enumerate()), _open_files()
        _trained(component, tmp_path, True)
        threads = [thread.name for thread in threading.enumerate() if thread not in before]
        what, cure = f"logger '{component.name}'", "close it in trainkit_run_end"
        assert not threads, f"{what}: a thread goes on after the run ({', '.join(threads)}); {cure}"
        children = multiprocessing.active_children()
        assert not children, f"{what}: a process goes on after the run ({children[0].name}); {cure}"
        left = [file for file in _open_files() - files if file.startswith(str(tmp_path))]
        assert not left, f"{what}: {Path(left[0]).name} is still open after the run; {cure}"

    def test_writes_into_the_run_folder(
        self, component: Component, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No file appears but in the run folder: not where the program was started, nor in the home folder."""
        started, home = tmp_path / "started", tmp_path / "home"
        for folder in (started, home):
            folder.mkdir()
        monkeypatch.chdir(started)
        monkeypatch.setenv("HOME", str(home))
        run = _trained(component, tmp_path, True)
        left = [path for folder in (started, home) for path in folder.rglob("*") if ".cache" not in path.parts]
        assert not left, (
            f"logger '{component.name}' leaves {', '.join(path.name for path in left)} where the program was started; "
            f"files go into run.folder ({run.folder.name})"
        )

    def test_a_continued_run_goes_on_with_it(self, component: Component) -> None:
        """A run that is stopped and continued is the one that was not, also in what the logger adds to its lines."""
        whole = straight(component)
        assert not whole.seen.mute, (
            f"logger '{component.name}' sees the training, and does not say what it keeps: implement trainkit_save and "
            "trainkit_restore, or say stateless = True"
        )
        different = whole.difference(interrupted(component))
        assert not different, (
            f"logger '{component.name}', in a run in one go and in one that was stopped and continued: {different}; "
            "save what it keeps in trainkit_save, and take it back in trainkit_restore"
        )


def _trained(component: Component, folder: Path, named: bool) -> TinyRun:
    """The tiny run with the logger, or without."""
    return run_tiny(folder, {"logger": [table_of(component)] if named else []}, plugins_of(component))


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
