"""The names of all checks, with what each looks at; without torch, for the command line."""

from __future__ import annotations

from trainkit.arguments import near, usage_error

TYPE_CHECKING = False  # as in trainkit/__init__.py: typing is not worth its import
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Loggers write at the end of a run, and to places that a probe has no business with.
CHANGES = ("logger=[]",)
CHECKS: Mapping[str, str] = {
    "inputs": "statistics of inputs and targets, and what splits give away",
    "same-seed": "the same seed gives the same result",
    "initial-loss": "the loss before training, with and without regularisation",
    "gradient-check": "gradients against differences, in float64",
    "batch-independence": "samples of a batch do not touch each other",
    "all-parameters": "every parameter receives gradients",
    "update-ratio": "the size of the first updates beside that of the weights",
    "dead-relus": "units that never answer",
    "time": "the time of an update by its parts",
    "overfit": "a few examples are learned by heart",
    "shuffled-labels": "nothing is learned from labels of other samples",
}


def chosen(words: Sequence[str]) -> list[str]:
    """The checks that ``--only`` names, separated by commas or by saying it again.

    Raises:
        UsageError: if there is no such check.
    """
    names = [name.strip() for word in words for name in word.split(",")]
    for name in names:
        if name not in CHECKS:
            raise usage_error(f"--only: no check named '{name}'; {near(name, CHECKS)}checks: {', '.join(CHECKS)}")
    return names
