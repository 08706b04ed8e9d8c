"""What the figures of an ensemble come to, in sentences: also where one model would have done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMES = {"nll": "negative log likelihood", "mse": "squared error"}
FEW = 1000  # samples below which the noise of an accuracy is worth a word
DEARER = 1.05  # times the multiplications from which on one model costs more than another
ROUNDING = 1e-12  # no figure differs by less, as a share of it: sums of bootstrap draws are equal but for rounding


def words(report: Mapping[str, Any]) -> list[str]:
    """Sentences that a reader should not miss, the most important first.

    Args:
        report: what ``report.json`` holds.
    """
    split = "test" if "test" in report["ensemble"] else "validation"
    said: list[str] = []
    said += _against(report, split, "best_member")
    said += _against(report, split, "longer")
    said += _optimism(report)
    if split == "validation":
        said.append(
            "nothing was measured on test samples: these figures are of samples that all was chosen by, and flatter"
        )
    said += _noise(report, split)
    if (scale := report.get("variance_scale")) is not None and not 0.5 < scale < 2:
        side = "small" if scale > 1 else "large"
        errors = f"squared errors on validation are {scale:.3g} times as large"
        said.append(f"the variance that it gives is too {side}: {errors}")
    return said


def _against(report: Mapping[str, Any], split: str, other: str) -> list[str]:
    """Whether the ensemble is better than one model, by the figure that members are chosen by, and by accuracy."""
    apart = report["differences"].get(other, {}).get(split, {}).get(report["kind"])
    if not apart:
        return []
    figure = report["chosen_by"]
    own, against = (report[name][split][report["kind"]] for name in ("ensemble", other))
    verdict = verdict_of(apart[figure])
    shown = _shown(figure, own, against, apart)
    if "accuracy" in apart:
        shown += f"; {_shown('accuracy', own, against, apart)}"
    if other == "best_member":
        name = f"the best member ({report['best_member']['name']})"
        if all(
            abs(between[end]) < ROUNDING * max(1.0, abs(own[one]["value"]))
            for one, between in apart.items()
            for end in ("low", "high")
        ):
            only = "one member" if len(report["members"]) == 1 else "nothing is gained by more members"
            return [f"{only}: the ensemble is {report['best_member']['name']}"]
        price, cheaper = _price(report), _cheaper(report, "")
        cure = "use it alone" + (f", at {price} of the ensemble's cost of a prediction" if price else "")
        alike = f": {cure}, unless a larger test says more" if price else ""
        ends = {
            "better": f"the ensemble is better than {name}" + (f", and {cheaper}" if cheaper else ""),
            "worse": f"{name} alone is better than the ensemble" + (f", which {cheaper}" if cheaper else f": {cure}"),
            "even": f"the ensemble cannot be told from {name} on these samples"
            + (f", and {cheaper}" if cheaper else alike),
        }
    else:
        cost = report["cost"]["training"]
        name = f"one run trained for as long as all members together ({cost['longer']['updates']:,} updates)"
        price, cheaper = _price(report), _cheaper(report, " of the best member")  # that of a longer run is not measured
        advice = f", but the ensemble {cheaper}" if cheaper else ": do not ensemble here, train one model longer"
        alike = f", which predicts at {price} of its cost" if price else ""
        ends = {
            "better": f"the ensemble is better than {name}",
            "worse": f"{name} is better than the ensemble{advice}",
            "even": f"the ensemble cannot be told from {name}" + (f", and {cheaper}" if cheaper else alike),
        }
    return [f"{ends[verdict]}: {shown}"]


def verdict_of(apart: Mapping[str, float]) -> str:
    """``better``, ``worse``, or ``even`` where the interval holds 0; of a figure that is better when lower."""
    if apart["high"] < 0:
        return "better"
    return "worse" if apart["low"] > 0 else "even"


def _shown(figure: str, own: Mapping[str, Any], against: Mapping[str, Any], apart: Mapping[str, Any]) -> str:
    value, other, between = own[figure]["value"], against[figure]["value"], apart[figure]
    name = NAMES.get(figure, figure)
    if figure == "accuracy":
        low, high = (100 * between[end] for end in ("low", "high"))
        return f"{name} {value:.2%} against {other:.2%} (by {low:+.2f} to {high:+.2f} points)"
    return f"{name} {value:.4g} against {other:.4g} (by {between['low']:+.4g} to {between['high']:+.4g})"


def _price(report: Mapping[str, Any]) -> str:
    """What a prediction of one member costs, of what one of the ensemble does; empty where that is no less."""
    cost = report["cost"]
    one, all_of_them = cost["member"]["macs"], cost["ensemble"]["macs"]
    times = all_of_them / one if one and all_of_them else cost["passes"]
    return f"1/{times:.3g}" if times > DEARER else ""


def _cheaper(report: Mapping[str, Any], of: str) -> str:
    """That a prediction of the ensemble costs less than one of a member, as a smaller student's does; empty where it
    does not, or multiplications could not be counted.
    """
    one, all_of_them = (report["cost"][name]["macs"] for name in ("member", "ensemble"))
    if not one or not all_of_them or one / all_of_them <= DEARER:
        return ""
    return f"costs less ({all_of_them:,} multiplications for a prediction, against {one:,}{of})"


def _optimism(report: Mapping[str, Any]) -> list[str]:
    """How much better the ensemble looked on the samples it was chosen by."""
    gap = report["optimism"]["ensemble"].get(report["kind"])
    figure = report["chosen_by"]
    again = report["reselection"].get("ensemble")
    if not gap or figure not in gap or not again:
        return []
    own = report["ensemble"]
    before, after = (own[split][report["kind"]][figure] for split in ("validation", "test"))
    anew = again[report["kind"]][figure]
    text = (
        f"{NAMES[figure]} was {before['value']:.4g} on the validation samples it was chosen by, {anew:.4g} on those of "
        f"them that had no part in the choice, and is {after['value']:.4g} on test"
    )
    return [text]


def _noise(report: Mapping[str, Any], split: str) -> list[str]:
    count = report["samples"].get(split, 0)
    accuracy = report["ensemble"].get(split, {}).get("raw", {}).get("accuracy")
    if accuracy is None or not 0 < count < FEW:
        return []
    share = accuracy["value"]
    error = 100 * max(share * (1 - share), 1 / count) ** 0.5 / count**0.5
    return [f"{count} {split} samples: one standard error of an accuracy here is {error:.2g} points"]
