"""A plugin of tests: a callback that sees every run, can fail, and can send a signal; an executor of two slots."""

from __future__ import annotations

import os
import signal

from trainkit import Component, hookimpl
from trainkit_executors.here import Serial

HELD_OUT: list[tuple[int, list[tuple[float, ...]]]] = []  # seed and validation samples of each run
FAILS: set[int] = set()  # seeds
SIGNALS: set[int] = set()  # seeds; each once


class Watch:
    """Sees the samples, and does what it is told to."""

    stateless = True

    @hookimpl
    def trainkit_run_start(self, run):
        batches = run.feed.evaluate("val")
        HELD_OUT.append((run.seed, [tuple(row.flatten().tolist()) for batch in batches for row in batch.inputs]))

    @hookimpl
    def trainkit_epoch_end(self, run):
        if run.seed in FAILS:
            raise RuntimeError("no luck with this seed")
        if run.seed in SIGNALS:
            SIGNALS.discard(run.seed)
            os.kill(os.getpid(), signal.SIGTERM)


def watch() -> Watch:
    """Watch a run."""
    return Watch()


class Two(Serial):
    """Says that it takes two at once."""

    slots = 2


def two() -> Two:
    """Two at once."""
    return Two()


@hookimpl
def trainkit_components() -> list[Component]:
    """Both."""
    return [Component("callback", watch), Component("executor", two)]
