"""The executor: hands jobs to workers on the cluster, hears from them, and puts others in the place of the dead."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trainkit import CheckpointError, Job, MachineError, Outcome, begin_from
from trainkit_ray.cluster import Connection, gone, lasting, reason
from trainkit_ray.deaths import GRACE_S, Deaths
from trainkit_ray.hand import Hand
from trainkit_ray.notes import Notes
from trainkit_ray.share import Share
from trainkit_ray.worker import (
    ANSWER,
    CARRIED,
    ENDED,
    LACKS,
    MEASURED,
    MORE,
    STOPS,
    Message,
    Told,
    Worker,
    told_to_workers,
)

if TYPE_CHECKING:
    from trainkit import Site

SLICE_S = 0.2  # the longest that a wish to stop waits to be sent
DOUBT_S = 60.0  # until Ray knows why no message comes through to a worker


class RayExecutor:
    """Carries jobs out on a Ray cluster.

    Args:
        cluster: auto or local, as the setting of that name.
        workers: how many; ``None`` for as many as there is room for.
        share: of a node's means, for each process of a job's run.
    """

    slots = 1  # until it is opened

    def __init__(self, cluster: str, workers: int | None, share: Share) -> None:
        self._cluster, self._workers, self._share = cluster, workers, share
        self._site: Site | None = None
        self._connection: Connection | None = None
        self._told: Told | None = None
        self._hands: list[Hand] = []
        self._waiting: deque[Job] = deque()
        self._rested: list[tuple[Job, Outcome]] = []
        self._deaths: Deaths | None = None
        self._notes: Notes | None = None
        self._stopping = False

    def open(self, site: Site) -> None:
        """Come to the cluster, and see what room it has.

        Raises:
            MachineError: if there is none, or none for a single worker.
            UsageError: if the user has named none that can be.
        """
        self._site, self._deaths, self._notes = site, Deaths(site.say), Notes(site)
        folder = site.folder.absolute()
        token, secret = folder / f".ray-{secrets.token_hex(4)}", secrets.token_hex(16)
        self._connection = Connection(self._cluster, site.where)
        self._share = share = self._share.settled(site.recipe, self._connection.gpus)
        processes = share.processes(site.recipe)
        room = self._connection.room(share, processes)
        if not room and self._workers is None:
            raise MachineError(
                f"no node of the Ray cluster has {share.text(processes)} for a worker\n"
                "  set cpus, gpus and memory of the executor to what a node has, or workers if nodes are to come"
            )
        self.slots = self._workers or room
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".ray-*"):  # by a driver that was killed
            left.unlink(missing_ok=True)
        token.write_text(secret, encoding="utf-8")
        self._told = told_to_workers(site, token, secret, share.threads)

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
            for hand in self._hands:
                if self._connection.there:
                    hand.end()
                else:
                    hand.rest()
            self._connection.leave()
        self._hands = []

    # ------------------------------------------------------------ workers

    def _hand_out(self) -> None:
        """Give waiting jobs to free workers, and begin workers where there are too few."""
        if self._stopping:
            self._pass_on()
        still: list[Job] = []
        starting = Counter(hand.size for hand in self._hands if not hand.ready)
        for job in self._waiting:
            size = self._share.processes(job.recipe)
            free = [hand for hand in self._hands if hand.ready and hand.job is None]
            if (hand := next((hand for hand in free if hand.size == size), None)) is not None:
                if self._begins(job):
                    hand.give(job)
                continue
            still.append(job)
            if starting[size]:
                starting[size] -= 1
                continue
            if len(self._hands) >= self.slots and free:  # of another size than any job that waits may need
                self._hands.remove(free[0])
                free[0].end()
            if len(self._hands) < self.slots:
                self._hands.append(self._begin(size))
        self._waiting = deque(still)

    def _begins(self, job: Job) -> bool:
        """Make the folder of a run that begins with another one's checkpoint; whether that could be."""
        if job.parent is not None:
            try:
                begin_from(job.parent, job.folder)
            except CheckpointError as error:
                self._rested.append((job, Outcome("error", message=str(error), origin="CheckpointError")))
                return False
            except OSError as error:
                raise MachineError(f"{error.filename or job.folder}: {error.strerror or error}") from error
        return True

    def _begin(self, size: int) -> Hand:
        import ray

        made: Any = ray.remote(Worker)
        # Messages pass while a job is trained: a wish to stop beside the call that waits for news.
        options = {**self._share.options(size), "max_restarts": 0, "max_concurrency": 4}
        assert self._told is not None
        told = replace(self._told, threads=size * self._share.threads)  # which the processes of a run divide
        with lasting():
            return Hand(made.options(**options).remote(told), size)

    def _pass_on(self) -> None:
        """Tell busy workers to stop; jobs that no worker has begun come back as they are."""
        self._rested += [(job, Outcome("interrupted", message=STOPS)) for job in self._waiting]
        self._waiting.clear()
        for hand in self._hands:
            if hand.job is not None:
                hand.stop()

    def _hear(self, seconds: float) -> bool:
        """Take in what has come; whether anything has."""
        import ray

        assert self._connection is not None
        assert self._deaths is not None
        assert self._notes is not None
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
            self._notes.waits(bool(self._waiting) and not any(hand.ready for hand in self._hands))
        for reference in ready:
            hand = awaited[reference]
            hand.heard = None
            try:
                said = ray.get(reference)
            except ConnectionError as error:  # of a client
                raise gone(f"({reason(error)})") from error
            except ray.exceptions.ActorUnavailableError as error:
                if time.monotonic() - (hand.doubted or time.monotonic()) < DOUBT_S:
                    time.sleep(min(SLICE_S, seconds))
                    hand.ask()
                else:
                    self._lost(hand, error, unreachable=True)
                continue
            except ray.exceptions.RayError as error:
                self._lost(hand, error)
                continue
            if hand.doubted:  # it lives, but nobody knows which of its messages were lost
                self._lost(hand, ConnectionError("messages to it were lost"), unreachable=True)
                continue
            if hand.ready:
                if not hand.send_more():
                    self._take_in(hand, said)
                continue
            lack, hand.sees = said
            if lack:
                raise MachineError(lack)
            hand.ready, self._deaths.failed = True, 0
            self._notes.carried(hand.sees)
        return bool(ready)

    def _take_in(self, hand: Hand, messages: list[Message]) -> None:
        job = hand.job
        assert job is not None
        assert self._site is not None
        answered = False
        for word, said in messages:
            if word == MEASURED:
                answer = self._site.measured(job, said)
                if job.watched:
                    answered = True
                    hand.say(ANSWER, answer)
            elif word == CARRIED:
                hand.receive(said)
            elif word == ENDED:
                hand.rest()
                self._rested.append((job, said))
            elif word == LACKS:
                hand.rest()
                raise MachineError(said)
        if hand.job is not None and not answered:
            hand.say(MORE)

    def _lost(self, hand: Hand, error: Exception, unreachable: bool = False) -> None:
        """Take in that a worker is dead, with or without its node.

        Args:
            hand: the worker.
            error: what Ray says.
            unreachable: whether it may live, and no message comes through.

        Raises:
            MachineError: if the cluster is dead too, or workers never get ready.
        """
        assert self._deaths is not None
        self._hands.remove(hand)
        job, seconds = hand.job, time.monotonic() - hand.since
        hand.end()  # it may live on where no message comes through, and another will have its job
        if not hand.ready:
            self._deaths.before_it_began(error)
        elif job is not None:
            outcome = self._deaths.of(job, seconds, error, hand.late, unreachable)
            if outcome is None and not self._stopping:
                self._waiting.appendleft(job)
            else:
                self._rested.append((job, outcome or Outcome("interrupted", seconds=seconds, message=STOPS)))

    def _end_late(self) -> None:
        """End workers whose job's time is over and that do not come to a step boundary."""
        for hand in self._hands:
            job = hand.job
            if hand.late or job is None or not job.timeout:
                continue
            if time.monotonic() - hand.since > job.timeout + GRACE_S:
                hand.late = True
                hand.kill()
