"""What ``report.json`` of an ensemble holds: how good it is beside its members, by samples that chose nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainkit.ensemble import costs
from trainkit.ensemble.base import Base
from trainkit.ensemble.bootstrap import LEVEL
from trainkit.ensemble.diversity import diversity
from trainkit.ensemble.figures import CALIBRATED, RAW, By, Compared, Folded, by_class, reliability, variance_scale
from trainkit.ensemble.measured import Measured, Seen
from trainkit.ensemble.opened import Ensemble
from trainkit.ensemble.retrying import Retrying
from trainkit.ensemble.telling import tell_plugins
from trainkit.ensemble.temperature import apply_temperature
from trainkit.ensemble.words import words
from trainkit.ensembler import Member

if TYPE_CHECKING:
    from trainkit.ensemble.making import Making

FORMAT = 1
MEASURING, STAGES = "measuring the ensemble", 5  # as the user sees it
MOST_SHOWN = 30  # members whose pairs are shown, and classes


def report_of(
    ensemble: Ensemble,
    members: Sequence[Member],
    base: Base,
    settings: Mapping[str, Any],
    longer: Member | None,
    making: Making,
) -> dict[str, Any]:
    """Measure a finished ensemble and what it was made of, and let plugins draw it.

    The test split is looked at here, once, and by nothing else: the ensemble is frozen.

    Args:
        ensemble: as its folder has it.
        members: those that it was chosen from, as the ensembler was given them.
        base: what all are measured by.
        settings: the filled table ``[ensemble]``.
        longer: one run for as many updates as all members together; ``None`` where there is none.
        making: where it is made, and who is told.

    Returns:
        What ``report.json`` holds; docs/ensembles.md says what each key is.
    """
    base.progress(0, STAGES, MEASURING)
    measured = Measured(ensemble, members, base, settings, making.recipe.tables["seed"], longer)
    made = measured_report(measured, making)
    base.progress(STAGES - 1, STAGES, MEASURING)
    tell_plugins(making.path, made, making.plugins, making.note)
    base.progress(STAGES, STAGES, "")
    return made


def measured_report(measured: Measured, making: Making) -> dict[str, Any]:
    """What there is to say of an ensemble; see `report_of`."""
    spec, settings, ensemble, progress = measured.spec, measured.settings, measured.ensemble, measured.base.progress
    progress(1, STAGES, MEASURING)
    # Models are compared after temperature, each its own: else one that is merely surer than it should be loses. Where
    # members are folds, the ensemble can have none.
    figure = "mse" if spec.task == "regression" else "nll"
    kind = RAW if spec.task == "regression" or measured.folded else CALIBRATED
    of_validation, of_test = measured.validation(), measured.test()
    validation = measured.folds() if of_validation is None else measured.compared(of_validation)
    test = None if of_test is None else measured.compared(of_test)
    everyone = range(len(measured.members))
    best = min(everyone, key=lambda number: (validation.value(number, kind, figure), number))
    retrying = Retrying(measured, making, of_test)
    progress(2, STAGES, MEASURING)
    reselection = retrying.reselection(kind, figure)
    progress(3, STAGES, MEASURING)
    curve = retrying.curve()
    made = {
        "format": FORMAT,
        "status": "finished",
        "ensembler": settings["use"],
        "settings": dict(settings),
        "ensemble_sha256": ensemble.sha256,
        "task": spec.task,
        "chosen_by": figure,
        "kind": kind,
        "temperature": ensemble.temperature,
        "bins": settings["bins"],
        "bootstrap": settings["bootstrap"],
        "level": LEVEL,
        "validation_is": "out of fold" if measured.folded else "held out",
        "samples": {
            "validation": measured.given.outputs.shape[1] if of_validation is None else len(of_validation.targets),
            **({} if of_test is None else {"test": len(of_test.targets)}),
        },
        **_models(measured, validation, test, best),
        "reselection": reselection,
        **_seen(measured, of_test or of_validation, best),
        "curve": curve,
        "cost": _costs(measured, best),
    }
    if (scale := _variance_scale(of_validation)) is not None:
        made["variance_scale"] = scale
    said = words(made)
    found: dict[str, Any] = _finite(made)
    return found | {"words": said}


def _finite(value: Any) -> Any:
    """What JSON can hold: a figure that is not finite becomes nothing."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _models(measured: Measured, validation: Compared | Folded, test: Compared | None, best: int) -> dict[str, Any]:
    """Each model with its figures, and how they differ."""
    count = len(measured.members)
    everyone, ensemble, longer = range(count), count, count + 1
    kept = {member.name for member in measured.ensemble.made_of}

    def figures(number: int) -> dict[str, By]:
        splits = {"validation": validation, "test": test}
        return {name: split.one(number) for name, split in splits.items() if split is not None and split.has(number)}

    members = [
        {
            "name": member.name,
            "kept": member.name in kept,
            "temperature": measured.temperatures[number],
            "cost": costs.as_dict(member.cost),
            **figures(number),
        }
        for number, member in enumerate(measured.members)
    ]
    made: dict[str, Any] = {
        "members": members,
        "mean_member": {"validation": validation.mean(everyone)},
        "best_member": {"name": measured.members[best].name, "number": best, **figures(best)},
        "ensemble": {"temperature": measured.ensemble_temperature, **figures(ensemble)},
    }
    if test is not None:
        made["mean_member"]["test"] = test.mean(everyone)
    others: dict[str, int | Sequence[int]] = {"best_member": best, "mean_member": everyone}
    if measured.longer is not None:
        made["longer"] = {
            "name": measured.longer.name,
            "temperature": measured.longer_temperature,
            "cost": costs.as_dict(measured.longer.cost),
            **figures(longer),
        }
        others["longer"] = longer
    made["differences"] = {name: {} for name in others}
    for split, compared in (("validation", validation), ("test", test)):
        if isinstance(compared, Compared):
            for name, other in others.items():
                if not isinstance(other, int) or compared.has(other):
                    made["differences"][name][split] = compared.apart(ensemble, other)
    made["optimism"] = {name: _gap(made[name]) for name in ("ensemble", "best_member", "mean_member")}
    return made


def _gap(model: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """By how much figures are higher on test than on validation."""
    before, after = (model.get(split, {}) for split in ("validation", "test"))
    return {
        kind: {
            name: one["value"] - before[kind][name]["value"] for name, one in figures.items() if name in before[kind]
        }
        for kind, figures in after.items()
        if kind in before
    }


def _seen(measured: Measured, seen: Seen | None, best: int) -> dict[str, Any]:
    """What outputs show beside figures: how members differ, how sure the ensemble is, and of which classes."""
    if seen is None:
        return {}
    spec, members = measured.spec, measured.members
    kept = {member.name for member in measured.ensemble.made_of}
    pairs = [number for number, member in enumerate(members) if member.name in kept]
    pairs = (pairs if len(pairs) > 1 else list(range(len(members))))[:MOST_SHOWN]
    names = [members[number].name for number in pairs]
    differ = diversity(seen.outputs[pairs], seen.targets, spec)
    made: dict[str, Any] = {"diversity": {"split": seen.name, "members": names, **differ}}
    if spec.task == "regression":
        return made
    models = {
        "ensemble": (seen.ensemble, measured.ensemble_temperature),
        "best_member": (seen.outputs[best], measured.temperatures[best]),
    }
    bins = measured.settings["bins"]
    made["reliability"] = {"split": seen.name} | {
        name: {
            RAW: reliability(outputs, seen.targets, spec, bins),
            CALIBRATED: reliability(apply_temperature(outputs, temperature, spec), seen.targets, spec, bins),
        }
        for name, (outputs, temperature) in models.items()
    }
    classes = by_class({name: outputs for name, (outputs, _) in models.items()}, seen.targets, spec)
    made["classes"] = classes[:MOST_SHOWN]
    return made


def _variance_scale(seen: Seen | None) -> float | None:
    if seen is None or seen.variance is None:
        return None
    return variance_scale(seen.ensemble, seen.targets, seen.variance)


def _costs(measured: Measured, best: int) -> dict[str, Any]:
    """What the best member, which one would use alone, and the ensemble cost."""
    inputs, device = measured.inputs(max(costs.BATCHES)), measured.base.device
    member, made_of = measured.members[best], measured.ensemble.made_of
    training = {
        "member": costs.as_dict(member.cost),
        "all": costs.as_dict(costs.of_training(measured.members)),
        **({} if measured.longer is None else {"longer": costs.as_dict(measured.longer.cost)}),
    }
    return {
        "member": costs.of_inference(member.module, [member.module], inputs, device),
        "ensemble": costs.of_inference(measured.ensemble, [member.module for member in made_of], inputs, device),
        "passes": len(made_of),
        "training": training,
    }
