"""The search itself: asks the searcher, lets the executor train, writes down what happened, tells the searcher."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from trainkit.errors import CheckpointError, Exit, MachineError, RecipeError
from trainkit.search.failures import (
    FIRST,
    RETRIES,
    StudyStopped,
    defect,
    is_failure,
    machine_is_full,
    policy,
    stopped_by,
)
from trainkit.search.folder import trial_folder
from trainkit.search.ledger import Going, Ledger
from trainkit.search.log import Event, StudyLog, order_as_json
from trainkit.search.plan import Plan
from trainkit.search.results import NeverMeasured, figures_of, part_event, rest_event
from trainkit.trial import Order, Record, Searcher, Trial, TrialStatus
from trainkit.work import Executor, Job, Measured, Outcome

WAIT_S = 0.5  # how long signals and the time limit may stay unseen
# How long running trials have to save themselves when the study stops, before they are left behind as if killed.
GRACE_S = 120.0


class Driver:
    """Carries a search on from where its ledger stands.

    Args:
        plan: what the recipe asks for.
        ledger: the trials so far; its searcher has been told of them.
        log: where events go.
        executor: trains; not yet open, as it is given what to call (`measured`).
        stopping: why the study is to stop now, to be continued, or ``""``; looked at often.
        rested: told of each trial that has come to rest, when that is on the disk.
    """

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        log: StudyLog,
        executor: Executor,
        stopping: Callable[[], str] = lambda: "",
        rested: Callable[[Record], None] = lambda record: None,
    ) -> None:
        self.plan = plan
        self.ledger = ledger
        self.study = ledger.study
        self.log = log
        self.executor = executor
        self.stopping = stopping
        self.rested = rested
        assert ledger.searcher is not None
        self.searcher: Searcher = ledger.searcher
        self._judge: Callable[[Trial], str] | None = getattr(self.searcher, "stop", None)
        self._queue: deque[Job] = deque()
        self._begun: set[tuple[int, int]] = set()  # runs that the executor has, by trial and part
        self._taken_up: set[tuple[int, int]] = set()  # runs that had begun in another process
        self._closed = False  # whether the searcher has no more for this batch
        self._news: list[Record] = []
        self._fatal: StudyStopped | MachineError | None = None
        self._told_to_stop = ""

    def run(self) -> str:
        """Search until there is no more to do.

        Returns:
            Why the study stopped before, to be continued; ``""`` when the search is over.

        Raises:
            StudyStopped: if what happened in a trial ends the study.
            MachineError: if the machine lacks something that all trials need, such as room on the disk.
        """
        self._take_up()
        while True:
            self._look_at_the_time()
            if not self._told_to_stop:
                self._fill()
            self._announce()
            while self._queue and len(self._begun) < self.executor.slots and not self._told_to_stop:
                job = self._queue.popleft()
                self.executor.submit(job)
                self._begun.add((job.trial, job.part))
            if not self._begun and (self._told_to_stop or not self._queue):
                break
            ended = self.executor.wait(WAIT_S)
            for job, outcome in ended:
                self._begun.discard((job.trial, job.part))
                self._ended(job, outcome)
            if self._told_to_stop and not ended and time.monotonic() > self._stop_by:
                break  # they go on from their newest checkpoints
        self._announce()
        if self._fatal is not None:
            raise self._fatal
        return self._told_to_stop

    # ------------------------------------------------------------ asking

    def _take_up(self) -> None:
        """Go on with the trials that were being trained when the study stopped or was killed."""
        for number, going in list(self.ledger.going.items()):
            self._submit_parts(self.study.records[number].trial, going)
            self._taken_up.update((number, part) for part in range(self.plan.parts))
            if number in self.ledger.going and (len(going.ended) == self.plan.parts or not self._queued(number)):
                self._settle(number)

    def _fill(self) -> None:
        """Ask for as much as the executor can take, or for a whole batch."""
        batch = self.plan.batch
        while not self._told_to_stop:
            if batch and (self._closed or len(self.ledger.window) >= batch):
                if self.ledger.going:
                    return
                self._closed = False
                if not self.ledger.window or self._cut_short():
                    return
                self._put({"event": "told", "trials": sorted(self.ledger.window)})
            if not batch and len(self._begun) + len(self._queue) >= self.executor.slots:
                return
            order = self._ask()
            if order is not None:
                self._begin(order)
            elif batch and self.ledger.window:
                self._closed = True
                if self.ledger.going:
                    return
            else:
                return

    def _cut_short(self) -> bool:
        """Whether the search ends within a batch, which more trials would fill when the study goes on."""
        if len(self.study.records) < self.plan.trials or len(self.ledger.window) >= self.plan.batch:
            return False
        return all(record.trial.over for record in self.study.records)

    def _ask(self) -> Order | None:
        order = self.searcher.ask()
        if order is not None and order.trial is None and len(self.study.records) >= self.plan.trials:
            return None
        return order

    def _begin(self, order: Order) -> None:
        """Write an order down, and get its jobs ready."""
        event: Event = {"event": "ask", "trial": len(self.study.records), "order": order_as_json(order)}
        if order.trial is not None:
            event.update(event="go", trial=order.trial)
        elif self.ledger.given < len(self.plan.given) and order.parent is None:
            event["point"] = dict(self.plan.given[self.ledger.given])
        self._put(event)
        trial = self.study.records[event["trial"]].trial
        self._submit_parts(trial, self.ledger.going[trial.number])
        self._settle(trial.number)

    def _submit_parts(self, trial: Trial, going: Going) -> None:
        for part in range(self.plan.parts):
            # What was to be pruned when the driver was killed measures once more, and ends there.
            if part in going.ended or (going.stop and part) or _failed(going):
                continue
            parent = None
            if trial.parent is not None:
                parent = trial_folder(self.study.folder, trial.parent, part, self.plan.parts)
            folder = trial_folder(self.study.folder, trial.number, part, self.plan.parts)
            try:
                recipe = self.plan.write(trial, part)
                if parent is not None:  # now, as the other trial may go on
                    self.log.sync()  # no folder that nobody has asked for is left where the process is killed here
                    self.plan.branch(parent, folder)
            except (RecipeError, CheckpointError) as error:  # a point that no check of single settings could tell
                failed = Outcome("error", message=str(error), origin=type(error).__name__)
                self._put(part_event(trial.number, part, failed, ()))
                return
            self._queue.append(
                Job(
                    trial.number,
                    part,
                    recipe,
                    folder,
                    going.until,
                    parent,
                    self.plan.objectives,
                    self._judge is not None,
                    self.plan.timeout,
                    self.ledger.drifted,
                )
            )

    def _queued(self, number: int) -> bool:
        return any(job.trial == number for job in self._queue)

    # ------------------------------------------------------------ results

    def measured(self, job: Job, measured: Measured) -> str:
        """What the executor tells of an evaluation; the answer is why the trial is to be pruned, or nothing."""
        self._look_at_the_time()
        going = self.ledger.going.get(job.trial)
        if going is None:
            return ""
        seen = self.ledger.seen.get(job.trial, {}).get(job.part, [])
        if seen and measured.trained <= seen[-1][0]:
            # A run that goes on from a checkpoint measures again what was decided upon before.
            return going.stop if measured.trained == seen[-1][0] or job.part else ""
        if any(name not in measured.metrics for name in self.plan.objectives[:1]):
            return going.stop
        event = self._report(job, measured)
        judged = job.part == 0 and measured.trained < 1.0 and event["figures"][0] is not None and not going.stop
        if self._judge is not None and judged:
            trial = self.study.records[job.trial].trial
            value = self.ledger.told([event["figures"][0], *[0.0] * (len(event["figures"]) - 1)])[0]
            trial.reports.append((measured.trained, value))
            try:
                reason = self._judge(trial)
            finally:
                trial.reports.pop()
            if reason:
                event["stop"] = reason
        self._put(event)
        self.log.flush()
        return going.stop

    def _ended(self, job: Job, outcome: Outcome) -> None:
        """Take in how a job came to rest."""
        number, going = job.trial, self.ledger.going[job.trial]
        tries = self.ledger.retried.get((number, job.part), 0)
        if outcome.status == "interrupted":
            self._put({"event": "interrupt", "trial": number, "seconds": round(outcome.seconds, 3)})
            self._look_at_the_time()
            if not self._told_to_stop:  # it goes on with the study, not in this process
                self._tell_to_stop(f"{job.name} was interrupted: {outcome.message or 'nobody said why'}")
            return
        what = self.plan.fail
        if machine_is_full(outcome):
            self._stop(MachineError(self._said(job, outcome, "the machine lacks something that every trial needs")))
            return
        if (code := defect(outcome)) is not None:
            self._stop(StudyStopped(self._said(job, outcome, "a defect, which no other point would mend"), code))
            return
        if outcome.status == "killed" and policy(what, "killed") == "retry" and tries < RETRIES:
            event = {"event": "retry", "trial": number, "part": job.part, "message": outcome.message}
            self._put({**event, "seconds": round(outcome.seconds, 3)})
            self._queue.appendleft(job)
            return
        if (number, job.part) in self._taken_up:
            self._catch_up(job, outcome)
        seen = self.ledger.seen.get(number, {}).get(job.part, [])
        try:
            figures = figures_of(outcome, self.study.objectives, seen, self.plan.take)
        except NeverMeasured as error:
            self._stop(StudyStopped(f"{self.study.folder}: {job.name}: {error}\n  name one of them", Exit.RECIPE))
            return
        event = part_event(number, job.part, outcome, figures)
        if self.plan.parts > 1:
            self._put(event)
        else:
            going.ended[0] = event
        self._settle(number)

    def _catch_up(self, job: Job, outcome: Outcome) -> None:
        """Take in what a run measured while nobody wrote it down: a worker may outlive the driver by a moment."""
        self._taken_up.discard((job.trial, job.part))
        known = {share for share, _ in self.ledger.seen.get(job.trial, {}).get(job.part, [])}
        for measured in self.plan.evaluations(job.folder, outcome):
            own = self.ledger.since.get(job.trial, 0.0) < measured.trained <= outcome.trained
            if own and measured.trained not in known:
                self._put(self._report(job, measured))

    def _report(self, job: Job, measured: Measured) -> Event:
        event: Event = {"event": "report", "trial": job.trial}
        if job.part:
            event["part"] = job.part
        event["trained"] = measured.trained
        figures = [measured.metrics.get(name) for name in self.plan.objectives]
        event["figures"] = [value if value is not None and value - value == 0 else None for value in figures]
        return event

    def _settle(self, number: int) -> None:
        """Bring a trial to rest whose runs all have, or of which one is enough."""
        going = self.ledger.going[number]
        if _failed(going) or going.stop:
            self._queue = deque(job for job in self._queue if job.trial != number)
            if any((number, part) in self._begun for part in range(self.plan.parts)):
                return
        elif len(going.ended) < self.plan.parts:
            return
        event = rest_event(number, going.ended, self.plan.parts, going.stop)
        status: TrialStatus = event.get("status", "done")
        if event["event"] == "fail":
            event["told"] = "worst" if policy(self.plan.fail, status) == "worst" else "nothing"
        self._put(event)
        record = self.study.records[number]
        self._news.append(replace(record, trial=replace(record.trial)))  # it may go on before it is told of
        if event["event"] != "fail":
            return
        name = f"trial {number}"
        if number < FIRST and self.ledger.errors.alike:
            why = "its first trials all failed with the same error"
        elif policy(self.plan.fail, status) == "stop":
            why = f'[search.fail] {status} = "stop"'
        else:
            return
        self._stop(StudyStopped(stopped_by(name, record.message or status, why, self.study.folder)))

    # ------------------------------------------------------------ stopping

    def _look_at_the_time(self) -> None:
        if not self._told_to_stop and (reason := self.stopping()):
            self._tell_to_stop(reason)

    def _tell_to_stop(self, reason: str) -> None:
        self._told_to_stop = reason
        self._stop_by = time.monotonic() + GRACE_S
        self.executor.stop()

    def _stop(self, error: StudyStopped | MachineError) -> None:
        self._fatal = self._fatal or error
        if not self._told_to_stop:
            self._tell_to_stop(str(error))

    def _said(self, job: Job, outcome: Outcome, why: str) -> str:
        words = [f"  put it right, and go on: trainkit resume {self.study.folder}"]
        return stopped_by(job.name, outcome.message, why, self.study.folder, words)

    # ------------------------------------------------------------ inside

    def _put(self, event: Event) -> None:
        self.log.add(event)
        self.ledger.put(event)

    def _announce(self) -> None:
        """Make durable what has happened, then say it."""
        self.log.sync()
        news, self._news = self._news, []
        for record in news:
            self.rested(record)


def _failed(going: Going) -> bool:
    return any(is_failure(part["status"]) for part in going.ended.values())
