"""What a run leaves behind while it trains: log lines, evaluations, checkpoints, and when each is due."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from trainkit import checkpoint, snapshot
from trainkit.agreement import Agreement, replicas_agree
from trainkit.divided import DividedSaver
from trainkit.errors import NotFinite, PluginDefect
from trainkit.hooking import wrong_answer
from trainkit.run import Metrics, Run
from trainkit.rundir import RunFolder, plain_number, write_atomically
from trainkit.saving import Saver
from trainkit.scheduled import values_at
from trainkit.seeding import put_back_generators, random_generators
from trainkit.signals import CutShort
from trainkit.stateful import Attributes
from trainkit.tally import Tally
from trainkit.targets import BATCH_SIZE
from trainkit.weights import not_finite

UNPAUSED_SAVES = 20  # so many checkpoints of a process are made however short the time between them
_LINE = ("step", "epoch", "split", "time")  # what every line of metrics.jsonl begins with


class Recorder:
    """Logs, evaluates and saves one run.

    Args:
        run: the run.
        folder: its folder.
    """

    def __init__(self, run: Run, folder: RunFolder) -> None:
        self.run = run
        self.folder = folder
        run.history = folder.lines
        self.tally = Tally(run)
        self.attributes = Attributes(run)
        self.newest: Metrics = {}
        self.best: dict[str, Any] | None = None
        self.started = time.monotonic()
        settings = run.recipe["run"]
        self.monitor: str = settings["monitor"]
        self._every = {what: run.clock.interval(settings[f"{what}_every"]) for what in ("log", "evaluate", "save")}
        self._saved_at = -1
        self._pause: float = settings["save_pause"]
        self._save_best: bool = settings["save_best"]
        self._saves, self._last_save = 0, 0.0
        self.cut: Metrics | None = None  # where an evaluation was cut short: the figures of the log line before it
        self._said_not_finite = False
        self._best_checkpoint: str | None = None
        self.saver = Saver(folder.path / "checkpoints", settings["keep"], settings["save_in_background"])
        if run.sharded is not None:
            self.saver = DividedSaver(self.saver.parent, settings["keep"], run.sharded)
        self._epoch_end = 0
        self.agreement = Agreement(run) if run.group.size > 1 else None
        self._plan()

    @property
    def seconds(self) -> float:
        """Wall seconds since the run started."""
        return time.monotonic() - self.started

    def _plan(self) -> None:
        """Work out the next position at which anything is due."""
        run = self.run
        position = run.position
        left = -(-(run.feed.batches_in(run.epoch) - run.batch_in_epoch) // run.clock.accumulate)
        self._epoch_end = position + left
        marks = [every.after(position) for every in self._every.values()]
        kept = (at for at in run.keep_at if at > position)
        self.next_due = min(*marks, self._epoch_end, run.total_updates, *kept)

    def _is_due(self, what: str) -> bool:
        position = self.run.position
        return self._every[what].at(position) or position >= self.run.total_updates

    @property
    def evaluates(self) -> bool:
        """Whether an evaluation is due at this update."""
        return self._is_due("evaluate") and "val" in self.run.feed.spec.sizes

    @property
    def logs(self) -> bool:
        """Whether a log line is due at this update."""
        return self._is_due("log")

    def log_and_evaluate(self) -> bool:
        """Write the log line and make the evaluation that are due here; say whether there was an evaluation.

        Raises:
            CutShort: if a signal has come: the run stands after the log line and before the evaluation.
        """
        self.saver.check()
        run = self.run
        again, fresh = self.cut is not None, dict(self.cut or {})
        if not again and self._is_due("log"):
            fresh |= self._log()
        if evaluated := self.evaluates:
            drawn = random_generators(run.device) if _draws_before_a_cut(run, "val") else None
            try:
                fresh |= self.evaluate("val")
            except CutShort:
                if drawn is not None:
                    put_back_generators(drawn, run.device)
                self.cut = fresh
                raise
            self._compare()
        if again:  # the checkpoint that was saved here does not hold the evaluation
            self.cut, self._saved_at = None, -1
        run.reactions.observe(run, fresh)
        return evaluated

    def save_and_leave(self) -> None:
        """Save within what is due here, when the run is to stop, and write the line that the report needs."""
        self.save()
        self._log()

    def _log(self) -> Metrics:
        run = self.run
        if not (figures := self.tally.figures()):
            return {}
        # The values that the last update was made with.
        t = max(0, run.step - 1)
        values = _own_rates(run) | values_at(tuple(run.schedules), t, run.schedule_updates, run.events)
        if run.skipped and BATCH_SIZE in values:  # batches are cut by position: an update left out had its own
            sizes = tuple(value for value in run.schedules if value.label == BATCH_SIZE)
            values |= values_at(sizes, run.position - 1, run.schedule_updates)
        return self.write("train", figures, self._given({*_LINE, *figures, *values}) | values)

    def _given(self, taken: Iterable[str]) -> dict[str, float]:
        """Figures that plugins give for a line which has the names in ``taken`` already.

        Raises:
            PluginDefect: if a name is taken.
        """
        givers = dict.fromkeys(taken, "the line itself")
        given = {}
        for impl in reversed(self.run.hook.trainkit_figures.get_hookimpls()):
            figures: Any = impl.function(*[self.run for _ in impl.argnames]) or {}
            for name, value in figures.items():
                if name in givers:
                    raise PluginDefect(
                        f"{impl.plugin_name} in hook trainkit_figures: the figure '{name}' is given by {givers[name]}\n"
                        "  a line has each name once: leave one of them out, or give it another name"
                    )
                givers[name], given[name] = impl.plugin_name, float(value)
        return given

    def evaluate(self, split: str) -> Metrics:
        """Measure a split and write its line; its figures with the split before their names."""
        figures = self.run.hook.trainkit_evaluate(run=self.run, split=split)
        if not isinstance(figures, Mapping):
            raise wrong_answer(self.run.hook.trainkit_evaluate, repr(figures)[:80], "figures by name")
        # A plugin's figure may be a tensor or a number of numpy's.
        return self.write(split, {name: float(value) for name, value in figures.items()}, {})

    def write(self, split: str, figures: Metrics, extra: dict[str, float]) -> Metrics:
        """Write one line of ``metrics.jsonl``; the figures with the split before their names."""
        run = self.run
        epochs = run.clock.epochs_at(run.position)
        line: dict[str, Any] = {
            "step": run.step,
            "epoch": int(epochs) if epochs == int(epochs) else round(epochs, 6),
            "split": split,
            "time": round(self.seconds, 6),
        }
        line |= {name: plain_number(value) for name, value in (figures | extra).items()}
        self.folder.metrics(line)
        fresh = {f"{split}.{name}": value for name, value in figures.items()}
        self.newest |= fresh
        return fresh

    def _compare(self) -> None:
        value = self.newest.get(self.monitor)
        if value is None:
            return
        if not math.isfinite(value):
            if not self._said_not_finite:
                self.run.say(f"{self.monitor} is {value} at update {self.run.step}: that is never the best")
                self._said_not_finite = True
            return
        sign = 1.0 if self.run.higher_is_better(self.monitor) else -1.0
        if self.best is None or sign * (value - self.best["value"]) > 0:
            self.best = {"step": self.run.step, "metric": self.monitor, "value": value}

    def save_if_due(self) -> None:
        """Save where it is due, at the best evaluation so far, and before the run ends; then plan on."""
        run = self.run
        is_best = self._save_best and self.best is not None and self.best["step"] == run.step
        pinned = run.position in run.keep_at
        due = is_best or pinned or (self._is_due("save") and not self._too_soon())
        if due or run.stop_reason is not None:
            self.save(is_best, due, pinned)
        if run.stop_reason is not None:
            # For the report. It comes after the checkpoint, which holds what was measured: a continued run goes on with
            # it as if nothing had happened, and this line is cut off.
            self._log()
        self._plan()

    def _too_soon(self) -> bool:
        """Whether epochs are so short that a checkpoint can be left out: what it would spare is repeated at once."""
        if self.run.position >= self.run.total_updates or self._saves < UNPAUSED_SAVES:
            return False
        return self.run.group.from_first(time.monotonic() - self._last_save < self._pause)

    def _state(self) -> dict[str, Any]:
        """What `restore` needs."""
        return {
            "best": self.best,
            "newest": self.newest,
            "seconds": self.seconds,
            "metrics_bytes": self.folder.lines.bytes,
            "cut": self.cut,
            "tally": self.tally.save(),
            "unsaved": self.attributes.changed(),
        }

    @property
    def saved_at(self) -> int:
        """Updates tried when the newest checkpoint was saved, that which the run goes on from included; else -1."""
        return self._saved_at

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where a checkpoint was saved; what the run's folder holds of later updates is removed.

        Args:
            state: the checkpoint's; the run itself stands there already.
        """
        self.best, self.newest = state["best"], dict(state["newest"])
        if self.best is not None and self.best["metric"] != self.monitor:
            self.run.say(f"the best {self.best['metric']} no longer counts: {self.monitor} is looked at from here on")
            self.best = None
        self.started -= state["seconds"]
        self.folder.cut(state["metrics_bytes"])
        self.cut = state.get("cut")
        self.tally.restore(state["tally"])
        self._saved_at = self.run.position
        self.saver.resumed_from(checkpoint.folder_name(self.run.step))
        name = checkpoint.folder_name(self.best["step"]) if self.best is not None and self._save_best else ""
        if name and (self.folder.path / "checkpoints" / name).is_dir():
            self._point_at_best(name)
        else:  # it was later than this checkpoint, or is none that is kept
            (self.folder.path / "best.json").unlink(missing_ok=True)
        self._plan()

    def _point_at_best(self, name: str) -> None:
        """Let ``best.json`` name a checkpoint, which pruning then leaves alone."""
        assert self.best is not None
        self._best_checkpoint = name
        write_atomically(self.folder.path / "best.json", self._best_text())

    def _best_text(self) -> str:
        assert self.best is not None
        return json.dumps({**self.best, "checkpoint": self._best_checkpoint}) + "\n"

    def save(self, is_best: bool = False, due: bool = False, pinned: bool = False) -> None:
        """Save a checkpoint at this step boundary.

        Args:
            is_best: whether the evaluation here is the best so far.
            due: whether the checkpoint would be there had nobody stopped the run.
            pinned: whether it stays, whatever ``run.keep`` says.

        Raises:
            NotFinite: if weights or other state are not finite; they never reach a checkpoint.
            MachineError: if the disk refuses; older checkpoints are untouched.
        """
        run = self.run
        if self._saved_at == run.position:
            return
        if run.group.size > 1:
            replicas_agree(run)
        # Of replicas the first one writes, for all; a model that is divided they write together.
        writes = run.group.first or run.sharded is not None
        if not writes:
            self.tally.look()  # what it refuses is refused in all processes, or one would go on without the others
        tensors, state = snapshot.capture(run, {**self._state(), "due": due}) if writes else ({}, {})
        if bad := next(filter(None, run.group.all_of(not_finite(tensors))), ""):
            self.tally.check()  # a loss that was not finite is what began it
            raise NotFinite(
                f"{_whose(bad)} is not finite after update {run.step}; the checkpoints hold what was before it\n"
                '  lower optimizer.lr, add [[callback]] use = "clip_norm", or go back by itself with nonfinite = '
                '"rollback" in [run]'
            )
        best = ""
        if is_best:
            self._best_checkpoint = checkpoint.folder_name(run.step)
            best = self._best_text()
        last = run.position >= run.total_updates
        if writes:
            durable = self.folder.make_durable
            self.saver.save(run.step, tensors, state, durable, best, self._best_checkpoint, last, pinned)
        self._saved_at = run.position
        self._saves, self._last_save = self._saves + 1, time.monotonic()

    def finish(self) -> None:
        """Come back when every checkpoint is durable.

        Raises:
            MachineError: if the disk refuses; older checkpoints are untouched.
        """
        self.saver.wait()

    def close(self) -> None:
        """End the thread that saves, when it is done."""
        self.saver.close()


def _draws_before_a_cut(run: Run, split: str) -> bool:
    """Whether random numbers may be drawn before the last place at which an evaluation can be cut short.

    That is the beginning of its last batch. Before the first one, only evaluations of others than the core can draw.
    """
    plan = getattr(run.feed, "plan", None)
    if plan is None or plan.eval_batches(split) > 1:
        return True
    parts = (impl.plugin for impl in run.hook.trainkit_evaluate.get_hookimpls())
    return not all(type(part).__module__.startswith("trainkit.") for part in parts)


def _whose(name: str) -> str:
    """A tensor of a checkpoint as a message calls it."""
    kind, _, rest = name.partition("/")
    if kind == "plugin":
        kind, _, rest = rest.partition("/")
    return f"'{rest}'" if kind == "model" else f"'{rest}' in the state of {kind}"


def _own_rates(run: Run) -> dict[str, float]:
    """The rates that no schedule sets, as the optimizer left them."""
    scheduled = {value.label for value in run.schedules}
    labelled = ((f"lr/{number}", group) for number, group in enumerate(run.optimizer.param_groups))
    return {label: float(group["lr"]) for label, group in labelled if label not in scheduled and "lr" in group}
