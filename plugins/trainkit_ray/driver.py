"""The executor: hands jobs to workers on the cluster, hears from them, and puts others in the place of the dead."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainkit import Job, MachineError, Outcome
from trainkit_ray.cluster import Connection, lasting, reason
from trainkit_ray.worker import (
    ANSWER,
    ENDED,
    JOB,
    LACKS,
    MEASURED,
    MORE,
    Message,
    Told,
    Worker,
    absolute,
    sent,
    versions,
)

if TYPE_CHECKING:
    from trainkit import Site

SLICE_S = 0.2  # the longest that a wish to stop waits to be sent
GRACE_S = 20.0  # beyond a job's time limit, for a step boundary to come
STARTS = 3  # workers in a row that end before they are ready: then another would too
SCARCE_S = 30.0  # seconds without room for a worker after which that is said


@dataclasses.dataclass(eq=False)
class _Hand:
    """One worker as the driver sees it.

    Args:
        actor: the worker.
        heard: what will come from it next; ``None`` while it has nothing to do.
        ready: whether it has begun.
        job: what it trains, as it was submitted.
        since: when it began with that.
        stopped: whether it was told to stop.
        late: whether it was ended because its job's time was over.
    """

    actor: Any
    heard: Any = None
    ready: bool = False
    job: Job | None = None
    since: float = dataclasses.field(default_factory=time.monotonic)
    stopped: bool = False
    late: bool = False


class RayExecutor:
    """Carries jobs out on a Ray cluster.

    Args:
        cluster: auto or local, as the setting of that name.
        workers: how many; ``None`` for as many as there is room for.
        cpus: cores for each.
        gpus: GPUs for each.
    """

    slots = 1  # until it is opened

    def __init__(self, cluster: str, workers: int | None, cpus: float, gpus: float) -> None:
        self._cluster, self._workers, self._cpus, self._gpus = cluster, workers, cpus, gpus
        self._site: Site | None = None
        self._connection: Connection | None = None
        self._told: Told | None = None
        self._hands: list[_Hand] = []
        self._waiting: deque[Job] = deque()
        self._rested: list[tuple[Job, Outcome]] = []
        self._stopping = False
        self._failed = 0
        self._scarce = 0.0

    def open(self, site: Site) -> None:
        """Come to the cluster, and see what room it has.

        Raises:
            MachineError: if there is none, or none for a single worker.
        """
        self._site = site
        folder = site.folder.absolute()
        token, secret = folder / f".ray-{secrets.token_hex(4)}", secrets.token_hex(16)
        self._connection = Connection(self._cluster)
        room = self._connection.room(self._cpus, self._gpus)
        if not room and self._workers is None:
            raise MachineError(
                f"no node of the Ray cluster has {self._cpus:g} cores and {self._gpus:g} GPUs for a worker\n"
                "  set cpus and gpus of [search.executor] to what a node has, or workers if nodes are to come"
            )
        self.slots = self._workers or room
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".ray-*"):  # by a driver that was killed
            left.unlink(missing_ok=True)
        token.write_text(secret, encoding="utf-8")
        self._told = Told(
            versions(),
            token,
            secret,
            [absolute(module) for module in site.modules],
            list(site.without),
            max(1, int(self._cpus)),
            os.getcwd(),
            list(sys.path),
            {name: value for name, value in os.environ.items() if name.startswith("TRAINKIT_")},
        )

    def submit(self, job: Job) -> None:
        """Take a job; a worker has it as soon as one is free."""
        self._waiting.append(job)
        self._hand_out()

    def wait(self, seconds: float) -> Sequence[tuple[Job, Outcome]]:
        """Answer what workers measure until a job has come to rest, at most about so long.

        Raises:
            MachineError: if the cluster is gone, or a node lacks something.
        """
        until = time.monotonic() + seconds
        while not self._rested:
            ready = self._hear(max(0.0, min(SLICE_S, until - time.monotonic())))
            self._hand_out()
            if not ready and time.monotonic() >= until:
                break
        rested, self._rested = self._rested, []
        return rested

    def stop(self) -> None:
        """Let all jobs stop; only noted here, as a signal's handler may have come into a call of Ray's."""
        self._stopping = True

    def close(self) -> None:
        """End the workers, and leave the cluster; one that was there before stays."""
        if self._told is not None:
            with contextlib.suppress(OSError):
                self._told.token.unlink()
        if self._connection is not None:
            for hand in self._hands if self._connection.there else ():
                self._end(hand)
            self._connection.leave()
        self._hands = []

    # ------------------------------------------------------------ workers

    def _hand_out(self) -> None:
        """Give waiting jobs to free workers, and begin workers where there are too few."""
        if self._stopping:
            self._pass_on()
        for hand in self._hands:
            if self._waiting and hand.ready and hand.job is None:
                hand.job, hand.since = self._waiting.popleft(), time.monotonic()
                hand.stopped = hand.late = False
                self._say(hand, JOB, sent(hand.job))
        starting = sum(not hand.ready for hand in self._hands)
        for _ in range(min(len(self._waiting) - starting, self.slots - len(self._hands))):
            self._hands.append(self._begin())

    def _begin(self) -> _Hand:
        import ray

        made: Any = ray.remote(Worker)
        # Messages pass while a job is trained: a wish to stop beside the call that waits for news.
        options = {"num_cpus": self._cpus, "num_gpus": self._gpus, "max_restarts": 0, "max_concurrency": 4}
        with lasting():
            actor = made.options(**options).remote(self._told)
            return _Hand(actor, actor.begin.remote())

    def _say(self, hand: _Hand, word: str, said: Any = None) -> None:
        with lasting():
            hand.heard = hand.actor.talk.remote(word, said)

    def _pass_on(self) -> None:
        """Tell busy workers to stop; jobs that no worker has begun come back as they are."""
        self._rested += [(job, Outcome("interrupted", message="the search stops")) for job in self._waiting]
        self._waiting.clear()
        for hand in self._hands:
            if hand.job is not None and not hand.stopped:
                hand.stopped = True
                with lasting():
                    hand.actor.stop.remote()

    def _hear(self, seconds: float) -> bool:
        """Take in what has come; whether anything has."""
        import ray

        assert self._connection is not None
        awaited = {hand.heard: hand for hand in self._hands if hand.heard is not None}
        if not awaited:
            time.sleep(0.0 if self._rested else min(seconds, 0.01))
            return False
        with lasting():
            ready, _ = ray.wait(list(awaited), num_returns=1, timeout=seconds)
            if len(ready) and len(awaited) > 1:  # the others that have come meanwhile
                ready, _ = ray.wait(list(awaited), num_returns=len(awaited), timeout=0)
        self._end_late()
        if not ready:
            self._connection.look()
            self._tell_scarce()
        for reference in ready:
            hand = awaited[reference]
            hand.heard = None
            try:
                said = ray.get(reference)
            except ray.exceptions.RayError as error:
                self._lost(hand, error)
                continue
            if hand.ready:
                self._take_in(hand, said)
            elif said:
                raise MachineError(said)
            else:
                hand.ready, self._failed, self._scarce = True, 0, 0.0
        return bool(ready)

    def _take_in(self, hand: _Hand, messages: list[Message]) -> None:
        job = hand.job
        assert job is not None
        assert self._site is not None
        answered = False
        for word, said in messages:
            if word == MEASURED:
                answer = self._site.measured(job, said)
                if job.watched:
                    answered = True
                    self._say(hand, ANSWER, answer)
            elif word == ENDED:
                hand.job = None
                self._rested.append((job, said))
            elif word == LACKS:
                hand.job = None
                raise MachineError(said)
        if hand.job is not None and not answered:
            self._say(hand, MORE)

    def _lost(self, hand: _Hand, error: Exception) -> None:
        """Take in that a worker is dead, with or without its node.

        Raises:
            MachineError: if the cluster is dead too, or workers never get ready.
        """
        assert self._connection is not None
        self._hands.remove(hand)
        self._end(hand)  # it may live on where no message comes through, and another will have its job
        why = reason(error)
        if not hand.ready:
            if "node" in why:
                return  # Ray had not noticed yet that a node is dead, and another may have room
            self._failed += 1
            if self._failed >= STARTS:
                has = ", ".join(f"{name} {version}" for name, version in versions().items())
                raise MachineError(
                    f"workers of the Ray cluster end before they have begun: {why}\n"
                    f"  every node needs trainkit, its plugins and torch as here: {has}"
                )
            return
        if (job := hand.job) is None:
            return
        seconds = time.monotonic() - hand.since
        if hand.late:
            message = f"timeout: {job.timeout:g} s are over, and no step boundary came within {GRACE_S:g} s more"
            self._rested.append((job, Outcome("timeout", seconds=seconds, message=message)))
        else:
            self._rested.append((job, Outcome("killed", seconds=seconds, message=f"its worker died: {why}")))

    def _end(self, hand: _Hand) -> None:
        import ray

        with contextlib.suppress(Exception):
            ray.kill(hand.actor)

    def _end_late(self) -> None:
        """End workers whose job's time is over and that do not come to a step boundary."""
        for hand in self._hands:
            job = hand.job
            if hand.late or job is None or not job.timeout:
                continue
            if time.monotonic() - hand.since > job.timeout + GRACE_S:
                hand.late = True
                self._end(hand)

    def _tell_scarce(self) -> None:
        """Say, once for each time, that jobs wait for room on the cluster."""
        assert self._site is not None
        busy = any(hand.ready for hand in self._hands)
        if not self._waiting or busy:
            self._scarce = 0.0
        elif not self._scarce:
            self._scarce = time.monotonic()
        elif 0 < self._scarce < time.monotonic() - SCARCE_S:
            self._scarce = float("inf")
            self._site.say("the Ray cluster has no room for a worker; the search waits for a node that has")
