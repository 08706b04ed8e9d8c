"""Work shared out among forked helpers: all of it is done, whatever becomes of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.soak.workers import children
from trainkit_data import helpers

if sys.platform != "linux":
    pytest.skip("processes are forked on Linux", allow_module_level=True)

COUNT = 40
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers, "_processors", lambda: 3)


class Marks:
    """Writes a byte for each portion, and misbehaves at one of them in a helper."""

    def __init__(self, folder: Path, fault: Callable[[], object] | None = None, at: int = 7) -> None:
        self.path = folder / "marks"
        self.path.write_bytes(bytes(COUNT))
        self.parent = os.getpid()
        self.fault, self.at = fault, at

    def __call__(self, number: int) -> None:
        time.sleep(0.002)  # long enough for each process to get some
        # Whatever is drawn here comes after the fault, so that a helper meets it.
        if self.fault is not None and os.getpid() != self.parent and number >= self.at:
            self.fault()
        with self.path.open("rb+") as file:
            file.seek(number)
            file.write(bytes([1 if os.getpid() == self.parent else 2]))


def run(work: Callable[[int], None], tickets: Path, **settings: bool) -> list[int]:
    with contextlib.closing(helpers.shared_out(work, COUNT, tickets, **settings)) as done:
        return list(done)


OTHERS: list[int] = []  # of other tests, such as the compiler's


@pytest.fixture(autouse=True)
def others() -> None:
    OTHERS[:] = children()


def no_children() -> bool:
    """Whether no helper runs, or has ended unheard."""
    return all(child in OTHERS for child in children())


def test_each_portion_is_done_once_by_some_process(tmp_path: Path) -> None:
    work = Marks(tmp_path)
    assert sorted(run(work, work.path)) == list(range(COUNT))
    assert set(work.path.read_bytes()) == {1, 2}
    assert no_children()


def test_alone_forks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    work = Marks(tmp_path)
    assert run(work, work.path, alone=True) == list(range(COUNT))


@pytest.mark.parametrize("allowed", [0, 1])
def test_where_no_more_processes_are_allowed_the_rest_is_done_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    fork, forked = os.fork, []

    def refuse() -> int:
        if len(forked) == allowed:
            raise BlockingIOError("Resource temporarily unavailable")
        forked.append(allowed)
        return fork()

    monkeypatch.setattr(os, "fork", refuse)
    work = Marks(tmp_path)
    assert sorted(run(work, work.path)) == list(range(COUNT))
    assert len(set(work.path.read_bytes())) == 1 + allowed
    assert no_children()


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fails() -> None:
    raise ValueError("only here")


def test_what_a_helper_leaves_is_done_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers, "_PATIENCE_S", 0.5)
    for name, fault in (("killed", killed), ("fails", fails), ("hangs", lambda: time.sleep(60))):
        (tmp_path / name).mkdir()
        work = Marks(tmp_path / name, fault)
        begun = time.monotonic()
        assert sorted(run(work, work.path)) == list(range(COUNT)), name
        assert 0 not in work.path.read_bytes(), name
        assert time.monotonic() - begun < 10, name
        assert no_children(), name


def test_an_error_is_raised_here_and_the_helpers_end(tmp_path: Path) -> None:
    work = Marks(tmp_path)

    def broken(number: int) -> None:
        if number == 9:
            raise ValueError("broken for all")
        work(number)

    with pytest.raises(ValueError, match="broken for all"):
        run(broken, work.path)
    assert no_children()


def test_helpers_end_when_the_iterator_is_left_early(tmp_path: Path) -> None:
    work = Marks(tmp_path)
    with contextlib.closing(helpers.shared_out(work, COUNT, work.path)) as done:
        next(done)
    assert no_children()


def test_helpers_end_with_a_run_that_is_killed(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import os, sys, time
        from pathlib import Path
        from trainkit_data import helpers
        helpers._processors = lambda: 3
        def work(number):
            os.write(1, f"{os.getpid()}\\n".encode())
            time.sleep(0.2)
        list(helpers.shared_out(work, 1000, Path(sys.argv[1])))
    """)
    (tmp_path / "tickets").touch()
    command = [sys.executable, "-c", script, str(tmp_path / "tickets")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT / "plugins") as process:
        assert process.stdout is not None
        seen: set[int] = set()
        while len(seen) < 3:
            seen.add(int(process.stdout.readline()))
        process.kill()
        begun = time.monotonic()
        process.stdout.read()  # ends when the last helper has closed its end
        assert time.monotonic() - begun < 20  # of 67
