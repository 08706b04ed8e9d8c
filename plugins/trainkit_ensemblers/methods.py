"""The ensemblers that combine what members give: their settings. Listing them does not import torch."""

from __future__ import annotations

from typing import Annotated, Literal

from trainkit import Between, Component, Ensembler, Positive, PositiveInt

Combine = Literal["auto", "probability", "logit"]
Metric = Literal["nll", "accuracy", "brier", "mse", "mae", "r2"]
FoldBy = Literal["auto", "class", "group", "none"]


def seeds(*, members: PositiveInt = 5, combine: Combine = "auto") -> Ensembler:
    """The mean of runs that differ in their seed: other weights to begin with, other orders of samples.

    Also called a deep ensemble. Of finished runs that are given, of whatever recipes, it is their plain mean. The first
    run has the recipe's seed, the next one that plus 1; all are trained on the same samples.

    Args:
        members: how many are trained where no runs are given.
        combine: what the mean is taken of: probabilities or logits; auto takes what has the lower negative log
            likelihood on validation, and probabilities where both have the same.

    Source: Lakshminarayanan et al. 2017, "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles".
    """
    from trainkit_ensemblers.weighted import Seeds

    return Seeds(members, combine)


def topk(
    *,
    k: PositiveInt = 5,
    members: PositiveInt | None = None,
    metric: Metric | None = None,
    combine: Combine = "auto",
) -> Ensembler:
    """The mean of the best few members: of given runs, of a search's trials, or of runs with several seeds.

    Members are ranked by their figure on validation, each on samples that it was not trained on. Of equal ones that
    comes first which was given first, or whose trial is the better one.

    Args:
        k: how many.
        members: how many are chosen from: the best so many trials of a search, or the first of the runs that are given,
            unset is all of them; where there is neither, so many seeds are trained, unset is 5.
        metric: figure to rank by; unset is nll, or mse of a regression.
        combine: what the mean is taken of: probabilities or logits; auto takes what has the lower negative log
            likelihood on validation, and probabilities where both have the same.
    """
    from trainkit_ensemblers.selection import TopK

    return TopK(k, members, metric, combine)


def greedy(
    seed: int,
    /,
    *,
    members: PositiveInt | None = None,
    metric: Metric | None = None,
    combine: Combine = "auto",
    rounds: PositiveInt = 25,
    bags: PositiveInt = 1,
    max_members: PositiveInt | None = None,
    max_passes: Positive | None = None,
) -> Ensembler:
    """Adds members one after the other, each the one that makes the mean best, also several times.

    What is kept is the shortest beginning with the best figure; a member weighs as often as it is in it, and one that
    is not costs nothing at prediction. Of equally good ones that is added which is in already, else the first. With
    combine = "auto" it is done for both means, and the choice with the lower negative log likelihood is taken.

    Args:
        members: how many are chosen from: the best so many trials of a search, or the first of the runs that are given,
            unset is all of them; where there is neither, so many seeds are trained, unset is 5.
        metric: figure of the mean to make as good as possible; unset is nll, or mse of a regression.
        combine: what the mean is taken of: probabilities or logits; auto takes what has the lower negative log
            likelihood on validation, and probabilities where both have the same.
        rounds: how many are added, counting repetitions.
        bags: do it so often, each time choosing from a random half of the members, and take the mean weights: less
            likely to fit the validation samples alone, and more members that are kept.
        max_members: the most members to keep.
        max_passes: the most that prediction may cost, in forward passes of the dearest member, by its multiplications.

    Source: Caruana et al. 2004, "Ensemble Selection from Libraries of Models".
    """
    from trainkit_ensemblers.selection import Greedy

    if bags > 1 and (max_members is not None or max_passes is not None):
        raise ValueError(
            "bags choose members apart from each other, and their mean keeps no max_members or max_passes\n"
            "  leave bags out, or the limits"
        )
    return Greedy(seed, members, metric, combine, rounds, bags, max_members, max_passes)


def convex(*, members: PositiveInt | None = None) -> Ensembler:
    """The mean of members' probabilities with the weights that make the validation samples likeliest.

    The weights are found by expectation and maximisation, from equal ones, in 500 steps or until none changes by 1e-8;
    members below 1e-4 are left out. Of a regression they are those of least squared error.

    Args:
        members: how many are chosen from: the best so many trials of a search, or the first of the runs that are given,
            unset is all of them; where there is neither, so many seeds are trained, unset is 5.

    Source: Dempster, Laird & Rubin 1977, "Maximum Likelihood from Incomplete Data via the EM Algorithm".
    """
    from trainkit_ensemblers.selection import Convex

    return Convex(members)


def vote(*, members: PositiveInt | None = None) -> Ensembler:
    """The class that most members take for the likeliest; of classes with as many votes the first.

    Look at its accuracy alone. Its probabilities are shares of votes, and where no member votes for the truth its
    negative log likelihood is infinite: shares are taken for at least 1e-6, and it is said how often that happens.

    Args:
        members: how many are chosen from: the best so many trials of a search, or the first of the runs that are given,
            unset is all of them; where there is neither, so many seeds are trained, unset is 5.
    """
    from trainkit_ensemblers.weighted import Vote

    return Vote(members)


def stacking(
    seed: int,
    /,
    *,
    members: PositiveInt | None = None,
    passthrough: bool = False,
    force: bool = False,
    cv: Annotated[int, Between(2)] = 5,
) -> Ensembler:
    """Logistic regression on the logarithms of all members' probabilities, which are taken for at least 1e-6.

    It is fitted to samples that no member was trained on: those of validation or, after a search with folds, all
    samples, each as the run saw it that held it out. Of seven penalties, C = 0.001 to 1000, it takes the one that is
    best by cross-validation. Below ten samples a column (members times classes) it is refused: it would learn their
    noise. Of a regression it is a ridge regression on what members give.

    Args:
        members: how many are chosen from: the best so many trials of a search, or the first of the runs that are given,
            unset is all of them; where there is neither, so many seeds are trained, unset is 5.
        passthrough: give it the inputs too, each of which is a column.
        force: fit it to fewer than ten samples a column too.
        cv: folds of the cross-validation.

    Source: Wolpert 1992, "Stacked Generalization".
    """
    from trainkit_ensemblers.stacked import Stacking

    return Stacking(seed, members, passthrough, force, cv)


def folds(*, folds: Annotated[int, Between(2)] = 5, fold_by: FoldBy = "auto", combine: Combine = "auto") -> Ensembler:
    """The mean of runs that each held out another part of the training and validation samples.

    Every sample trains all members but one, which is measured on it: the out-of-fold figures. They say how good a
    single run of a fold is; the mean of all is better, and only the test shows by how much. Runs that are given must
    each be of a fold.

    Args:
        folds: how many parts, and runs.
        fold_by: what folds keep together or balance, as in [data].
        combine: what the mean is taken of: probabilities or logits; no sample is held out by two of the runs that are
            trained, so that auto is probabilities.
    """
    from trainkit_ensemblers.weighted import Folds

    return Folds(folds, fold_by, combine)


def bagging(*, members: PositiveInt = 10, combine: Combine = "auto") -> Ensembler:
    """The mean of runs that are each trained on another bootstrap draw of the training samples (data.bag).

    A draw leaves out about 37 of 100 samples. The out-of-bag figures measure each training sample by the runs that did
    not draw it. Each run has a seed of its own too. Networks often lose more by the samples that are missing than they
    gain by the differences: compare with seeds. Runs that are given must each be of a draw.

    Args:
        members: how many are trained where no runs are given.
        combine: what the mean is taken of: probabilities or logits; auto takes what has the lower negative log
            likelihood on validation, and probabilities where both have the same.

    Source: Breiman 1996, "Bagging Predictors".
    """
    from trainkit_ensemblers.weighted import Bagging

    return Bagging(members, combine)


COMPONENTS = (
    Component("ensembler", seeds, example={"members": 3}),
    Component("ensembler", topk, example={"k": 3}),
    Component("ensembler", greedy, example={"rounds": 25}),
    Component("ensembler", convex, example={}),
    Component("ensembler", vote, example={}),
    Component("ensembler", stacking, example={"members": 2}),
    Component("ensembler", folds, example={"folds": 3}),
    Component("ensembler", bagging, example={"members": 3}),
)
