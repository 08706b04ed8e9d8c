"""What a finished search says beside its winner: how far it can be trusted, and what to try next."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainkit.search.edges import Edge, edges
from trainkit.search.importance import LEAST, Importance, importances
from trainkit.space import Dimension
from trainkit.trial import FAILURES, Record, Study

PER_DIMENSION = 10  # finished trials for each setting below which much of the space was not looked at
RESOLVED = 0.1  # a narrower interval is narrow enough with few trials too
UNSURE = 0.5  # width of an importance's interval from which it is not resolved
GAP = 0.05  # accuracy on training samples above that on validation samples that is worth a word
SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """One thing that a reader of the result should know.

    Args:
        about: what kind of thing: ``edge``, ``trials``, ``ties``, ``importance``, ``gap``, ``bias`` or ``failures``.
        text: a sentence or two, with figures and with what to do.
    """

    about: str
    text: str


@dataclass(frozen=True)
class Findings:
    """All that is found out about a study.

    Args:
        list: in the order in which they should be read.
        importances: how much each setting matters.
        edges: ranges that should be wider.
        ties: trials that cannot be told from the best one, by number.
    """

    list: Sequence[Finding]
    importances: Sequence[Importance]
    edges: Sequence[Edge]
    ties: Sequence[int]

    def as_dict(self) -> dict[str, Any]:
        """As ``report.json`` has it."""
        return {
            "findings": [{"about": finding.about, "text": finding.text} for finding in self.list],
            "importances": {i.setting: {"value": i.value, "low": i.low, "high": i.high} for i in self.importances},
            "edges": [
                {"setting": e.setting, "end": e.end, "bound": e.bound, "proposed": e.proposed} for e in self.edges
            ],
            "ties": list(self.ties),
        }


def findings(
    study: Study,
    samples: int = 0,
    allowed: Callable[[Edge], bool] = lambda edge: True,
    weigh: Callable[[Study], Sequence[Importance]] = importances,
) -> Findings:
    """Look a study through.

    Args:
        study: the study, at its end or on the way.
        samples: how many validation samples its figures are of; 0 where that is not known.
        allowed: whether a wider range is possible at all; a range that ends where its setting does says nothing.
        weigh: how much each setting matters; what it found a little earlier will do too.
    """
    done = [record for record in study.records if record.trial.status == "done" and record.trial.values]
    best = study.best()
    if best is None:
        return Findings(_failures(study), (), (), ())
    several = len(study.objectives) > 1
    outer = [] if several else [edge for edge in edges(study) if allowed(edge)]
    matter = [] if several else weigh(study)
    ties = [] if several else tied(study, best, samples)
    found = [Finding("edge", str(edge)) for edge in outer]
    wanted = PER_DIMENSION * len(study.space)
    if len(done) < wanted:
        settings = f"{len(study.space)} setting{'s' * (len(study.space) > 1)}"
        text = f"{len(done)} finished trials for {settings} are few: about {wanted} show more"
        found.append(Finding("trials", text))
    if not several:
        found += _noise(study, best, ties, samples)
    unsure = [item.high - item.low for item in matter[:1]]
    if len(matter) > 1 and (unsure[0] > UNSURE or (len(done) < LEAST and unsure[0] > RESOLVED)):
        first = matter[0]
        text = (
            f"importances are not resolved with {len(done)} trials: that of {first.setting} lies between "
            f"{first.low:.2f} and {first.high:.2f}"
        )
        found.append(Finding("importance", text))
    found += _gap(best)
    found += _bias(study, best)
    found += _failures(study)
    return Findings(found, matter, outer, ties)


def tied(study: Study, best: Record, samples: int) -> list[int]:
    """Trials that may be the best, and whose difference from it is within its noise; the best itself left out.

    The noise is the standard error of the difference of two means over folds or seeds; of one run each, that of a share
    of so many samples where the figure is an accuracy or an error. Else nothing is known, and nothing is listed.
    """
    error = _standard_error(study, best, samples)
    if error is None:
        return []
    found = []
    for record in study.records:
        trial = record.trial
        if record is best or not trial.final or trial.status != "done" or not trial.values:
            continue
        own = _standard_error(study, record, samples)
        if own is not None and trial.values[0] - best.trial.values[0] <= math.hypot(error, own):
            found.append(record)
    return [record.trial.number for record in sorted(found, key=lambda record: record.trial.values[0])]


def is_share(figure: str) -> bool:
    """Whether a figure is a share of the samples, so that its noise follows from their number."""
    return figure.rpartition(".")[2] in ("accuracy", "error")


def _standard_error(study: Study, record: Record, samples: int) -> float | None:
    if study.parts > 1 and record.spread:
        return record.spread[0] / math.sqrt(study.parts)
    if samples and is_share(study.objectives[0].figure) and record.figures:
        share = min(max(record.figures[0], 0.0), 1.0)
        return math.sqrt(max(share * (1 - share), 1 / samples) / samples)
    return None


def _noise(study: Study, best: Record, ties: Sequence[int], samples: int) -> list[Finding]:
    if ties:
        named = ", ".join(map(str, ties[:SHOWN])) + (f" and {len(ties) - SHOWN} more" if len(ties) > SHOWN else "")
        text = f"trial {best.trial.number} is within noise of trial{'s' * (len(ties) > 1)} {named}"
        more = "take the cheapest of them" if study.parts > 1 else "search.repeats = 3 or search.folds = 5 tells more"
        return [Finding("ties", f"{text}: {more}")]
    if study.parts == 1 and _standard_error(study, best, samples) is None:
        text = "each trial is one run with one seed: small differences between trials are no evidence; "
        return [Finding("ties", text + "search.repeats = 3 or search.folds = 5 shows the noise")]
    return []


def _gap(best: Record) -> list[Finding]:
    train, val = best.metrics.get("train.accuracy"), best.metrics.get("val.accuracy")
    if train is None or val is None or train - val <= GAP:
        return []
    text = (
        f"the best trial is right on {train:.1%} of the training and {val:.1%} of the validation samples: it overfits; "
        "more regularisation, augmentation or data may help more than another search"
    )
    return [Finding("gap", text)]


def _bias(study: Study, best: Record) -> list[Finding]:
    tested: Mapping[str, Any] = study.winner.get("test") or {}
    figure = study.objectives[0].figure
    name = figure.rpartition(".")[2]
    value = tested.get(f"test.{name}", tested.get(name))
    if value is None or not best.figures:
        return []
    text = f"{figure} of the winner was the best of {len(study.records)} trials, {best.figures[0]:.4g}; "
    return [Finding("bias", text + f"test.{name}, which nothing was chosen by, is {float(value):.4g}")]


def _failures(study: Study) -> list[Finding]:
    failed = [record for record in study.records if record.trial.status in FAILURES]
    if not failed:
        return []
    counts = Counter(record.trial.status for record in failed)
    what = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    text = f"{len(failed)} of {len(study.records)} trials failed ({what})"
    where = _region(study, failed)
    return [Finding("failures", text + (f"; {where}" if where else ""))]


def _region(study: Study, failed: Sequence[Record]) -> str:
    """The setting whose values tell failed trials from the others best, and from where on they fail."""
    others = [record for record in study.records if record.trial.status in ("done", "pruned", "paused")]
    told: list[tuple[float, str]] = []
    for dimension in study.space.dimensions:
        if dimension.kind == "choice":
            continue
        bad, good = (_numbers(dimension, records) for records in (failed, others))
        if len(bad) < max(3, len(failed)) or len(good) < 3:
            continue
        for word, sign in (("of at least", 1), ("of at most", -1)):
            mark = min(sign * value for value in bad)
            wrongly = sum(sign * value >= mark for value in good) / len(good)
            told.append((wrongly, f"all of them have {dimension.name} {word} {sign * mark:.3g}{dimension.unit}"))
    wrongly, text = min(told, default=(1.0, ""))
    return text if wrongly <= 0.2 else ""


def _numbers(dimension: Dimension, records: Sequence[Record]) -> list[float]:
    """The values that trials had as numbers; the recipe's own may be none, such as a duration in another unit."""
    found = []
    for record in records:
        with contextlib.suppress(KeyError, TypeError, ValueError):
            found.append(dimension.number(record.trial.point[dimension.name]))
    return found
