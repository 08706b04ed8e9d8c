"""Latin hypercube search, the median of members, and how far weights have drifted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainkit import Component, Ensembler, PositiveInt, Searcher, hookimpl

if TYPE_CHECKING:
    from trainkit_robust.drifting import Drift


def latin_hypercube(seed: int, /) -> Searcher:
    """Latin hypercube: each range is divided into as many parts as there are trials, and each part is tried once.

    Where a point does not meet the constraints of the space, another place within its parts is drawn, and at last an
    even draw takes its place.

    Source: McKay, Beckman & Conover 1979, "A Comparison of Three Methods for Selecting Values of Input Variables in the
    Analysis of Output from a Computer Code", Technometrics 21(2).
    """
    from trainkit_robust.latin import LatinHypercube

    return LatinHypercube(seed)


def median(*, members: PositiveInt | None = None) -> Ensembler:
    """The median of what members give for each class, made probabilities again; of a regression the median itself.

    Args:
        members: how many of the given runs, or of the best trials; unset takes all, or trains 5 where there are none.

    Source: Kuncheva 2014, "Combining Pattern Classifiers", 2nd edition, section 5.2.
    """
    from trainkit_robust.middle import Median

    return Median(members)


def drift() -> Drift:
    """Write how far the weights have come: the length of their way, as a share of the length they began with.

    The figure ``drift`` stands in each training line.

    Source: Nagarajan & Kolter 2019, "Generalization in Deep Networks: The Role of Distance from Initialization",
    arXiv 1901.01672.
    """
    from trainkit_robust.drifting import Drift

    return Drift()


@hookimpl
def trainkit_components() -> list[Component]:
    return [
        Component(
            "searcher",
            latin_hypercube,
            capabilities={"repeatable": True},
            exempt={
                "tries_no_point_of_a_small_space_twice": "each part of a range has one point, and where a range has "
                "fewer values than there are trials, several parts have the same value"
            },
        ),
        Component("ensembler", median, example={"members": 3}),
        Component("callback", drift),
    ]
