"""G7: the first signal, at a random instant, ends a run within an update and a save; it goes on as if none had come."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.soak import rig
from trainkit import Run, TrainkitError, hookimpl
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, load_recipe

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
LONGEST_S = 5.0  # from the signal to the end; updates of the recipe take milliseconds
PROCESS_EVERY = 5  # one run in so many is a process of its own, which a signal may meet while it starts


class Slow:
    """Makes updates and evaluations long enough to be met."""

    @hookimpl
    def trainkit_step_end(self) -> None:
        time.sleep(0.004)

    @hookimpl(wrapper=True)
    def trainkit_evaluate(self, run: Run) -> Any:
        feed = run.feed
        run.feed = _SlowFeed(feed)  # type: ignore[assignment]
        try:
            return (yield)
        finally:
            run.feed = feed

    @hookimpl
    def trainkit_save(self) -> None:
        time.sleep(0.01)


class _SlowFeed:
    def __init__(self, feed: Any) -> None:
        self._feed = feed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feed, name)

    def evaluate(self, split: str) -> Any:
        for batch in self._feed.evaluate(split):
            time.sleep(0.004)
            yield batch


def check(count: int, seed: int) -> list[str]:
    """Send so many signals, each to a run that is then continued; what went wrong."""
    wrong: list[str] = []
    chance = random.Random(seed)
    plugins = Plugins()
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        path = rig.write(top / "r.toml", data={"eval_batch_size": 2})
        recipe = load_recipe(path, [], plugins)
        begun = time.monotonic()
        launch(recipe, plugins, folder=top / "straight", listeners=[Slow()])
        length = time.monotonic() - begun
        sent = 0
        while sent < count:
            folder = top / f"run-{sent}"
            number = chance.choice(NUMBERS)
            if sent % PROCESS_EVERY == PROCESS_EVERY - 1:
                said = _process(top, path, folder, number, chance)
            else:
                said = _within(recipe, plugins, folder, number, chance.uniform(0, 1.1 * length))
            sent += 1
            if not said:
                said = _go_on(recipe, plugins, folder, top / "straight")
            wrong += [f"signal {sent} ({number.name}): {what}" for what in said]
    return wrong


def _within(recipe: Recipe, plugins: Plugins, folder: Path, number: signal.Signals, after: float) -> list[str]:
    """Send the signal to a run of this process."""
    sent_at: list[float] = []

    def send() -> None:
        sent_at.append(time.monotonic())
        os.kill(os.getpid(), number)

    before = signal.signal(number, lambda *_: None)  # the run may be over when it comes
    timer = threading.Timer(after, send)
    timer.start()
    status = ""
    try:
        status = launch(recipe, plugins, folder=folder, listeners=[Slow()]).status
    except TrainkitError as error:
        if error.exit_code != 75:
            return [str(error)]
        if folder.exists():
            return ["stopped before the first update, and the folder stays"]
    finally:
        took = time.monotonic() - sent_at[0] if sent_at else 0.0
        timer.join()
        signal.signal(number, before)
    if took > LONGEST_S and status == "interrupted":
        return [f"it took {took:.1f} s to end"]
    return [] if status in ("", "interrupted", "finished") else [f"status {status}"]


def _process(top: Path, path: Path, folder: Path, number: signal.Signals, chance: random.Random) -> list[str]:
    """Send the signal to a process of its own."""
    running = rig.start("run", path, "--run-dir", folder, folder=top)
    time.sleep(chance.uniform(0.3, 4.0))
    running.send_signal(number)
    try:
        _, err = running.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        running.kill()
        return ["the process did not end within a minute"]
    if "Traceback" in err:
        return [err]
    # Before the program has taken its handlers, in its first tenths of a second, the signal is the system's.
    early = {-number, 130} if not folder.exists() else set()
    return [] if running.returncode in {75, 0, *early} else [f"exit code {running.returncode}: {err}"]


def _go_on(recipe: Recipe, plugins: Plugins, folder: Path, straight: Path) -> list[str]:
    try:
        if not (folder / "report.json").exists() or rig.report_of(folder)["status"] != "finished":
            launch(recipe, plugins, folder=folder, resume=True)
    except TrainkitError as error:
        return [f"cannot be continued: {error}"]
    return rig.differences(straight, folder)
