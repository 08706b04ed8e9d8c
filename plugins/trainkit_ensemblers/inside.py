"""Models that hold several members inside: the factories. Importing this does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from trainkit import Between, Component, DataSpec, Nested, Positive, PositiveInt

if TYPE_CHECKING:
    from torch import nn


def packed(
    data_spec: DataSpec,
    /,
    *,
    of: Annotated[Any, Nested("model")],
    members: Annotated[int, Between(2)] = 4,
    alpha: Positive = 2.0,
    gamma: PositiveInt = 1,
) -> nn.Module:
    """Several narrow members side by side in one model of grouped layers, trained together: a packed ensemble.

    The layers of another model are made ``alpha`` times as wide and split into groups, so that each member has
    ``alpha / members`` of the width. In training the loss is the mean of the members' losses; elsewhere the model gives
    the logarithm of the mean of their probabilities, or the mean of their numbers for regression.

    Args:
        of: the model whose layers are widened and split: linear, Conv2d, batch, layer and group norms; whatever else it
            does must leave channels where they are (of a resnet, shortcut = "B").
        members: how many.
        alpha: width of all members together, as a multiple of the model's own.
        gamma: groups that each member's hidden layers are split into once more.

    Raises:
        ValueError: if a layer cannot be split, or members would see each other's channels.

    Source: Laurent et al. 2023, "Packed-Ensembles for Efficient Uncertainty Estimation", arXiv 2210.09184, section 3;
    the last layer is split by members alone, so that each class sees all features of its member.
    """
    from trainkit_ensemblers.grouped import pack

    return pack(of, data_spec, members, alpha, gamma)


def batch_ensemble(
    data_spec: DataSpec, /, *, of: Annotated[Any, Nested("model")], members: Annotated[int, Between(2)] = 4
) -> nn.Module:
    """Members that share one set of weights and differ by a factor for each input and output of a layer.

    Member i has the weights ``W * (s_i r_i^T)`` in each linear and convolutional layer, and a bias of its own; all else
    is shared. Every sample goes through all members. In training the loss is the mean of the members' losses; elsewhere
    the model gives the logarithm of the mean of their probabilities, or the mean of their numbers for regression.

    Args:
        of: the model whose linear and convolutional layers get the factors.
        members: how many; memory grows by a row and a column a layer for each, computation as for whole models.

    Raises:
        ValueError: if the model has no such layer.

    Source: Wen et al. 2020, "BatchEnsemble: An Alternative Approach to Efficient Ensemble and Lifelong Learning", arXiv
    2002.06715, section 3.1; factors begin as random signs, as in its section 4.2.
    """
    from trainkit_ensemblers.factors import with_factors

    return with_factors(of, data_spec, members)


_MLP = {"use": "mlp", "widths": [64]}
_ABLE = {"lanes": False}  # their loss is a hook, which sees one run at a time

MODELS = [
    Component("model", packed, example={"of": _MLP, "members": 4}, capabilities=_ABLE, owns=("loss",)),
    Component("model", batch_ensemble, example={"of": _MLP, "members": 4}, capabilities=_ABLE, owns=("loss",)),
]
