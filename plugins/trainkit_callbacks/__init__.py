"""Callbacks: objects whose hooks act on a run.

The factories stand in `on_gradients`, `on_weights`, `on_measuring` and `on_runs`, the objects that they make in the
other modules. Listing the callbacks does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainkit import Component, hookimpl
from trainkit_callbacks.on_gradients import agc, clip_norm, clip_value, gradient_centralization, gradient_noise
from trainkit_callbacks.on_measuring import several_views, threshold
from trainkit_callbacks.on_runs import early_stop, keep_checkpoints, norms, time_limit, update_ratio
from trainkit_callbacks.on_weights import ema, freeze, gradual_unfreeze, lawa, lookahead, swa, switch_ema

if TYPE_CHECKING:
    from trainkit import Problem


@hookimpl
def trainkit_check_recipe(recipe: Mapping[str, Any]) -> list[Problem]:
    from trainkit_callbacks.checks import figures_without_samples, timed_and_compiled, two_evaluations, two_lookaheads

    checks = (figures_without_samples, timed_and_compiled, two_evaluations, two_lookaheads)
    return [problem for check in checks for problem in check(recipe)]


@hookimpl
def trainkit_components() -> list[Component]:
    shards = {"shards": True}
    compiles, every_update = {"compiles": True} | shards, {"every_update": True} | shards
    together = compiles | {"lanes": True}
    clips = ("clip_norm",)
    evaluates = ("evaluation",)  # of two averages, one within the other, only one would be measured
    return [
        Component("callback", clip_norm, example={"max_norm": 1.0}, capabilities=together),
        Component("callback", clip_value, example={"max_value": 0.5}, capabilities=together, before=clips),
        Component(
            "callback",
            agc,
            example={"clipping": 0.01, "skip": ["head.*"]},
            capabilities=compiles,
            before=clips,
            conflicts=("agc",),
        ),
        Component(
            "callback",
            gradient_centralization,
            example={"conv_only": False},
            capabilities=together,
            before=("gradient_noise", "agc", "clip_value", "clip_norm"),
            conflicts=("gradient_centralization",),
        ),
        # Each process would draw noise for its rows alone, and the same as the others.
        Component("callback", gradient_noise, example={"eta": 0.01}, conflicts=("gradient_noise",)),
        Component(
            "callback",
            lookahead,
            example={"every": "5ba", "alpha": 0.5},
            capabilities=every_update,
            before=("ema", "switch_ema", "swa", "lawa"),  # which average the weights that training goes on with
            conflicts=("lookahead",),
        ),
        Component("callback", ema, example={"decay": 0.99}, capabilities=every_update, owns=evaluates),
        Component("callback", switch_ema, example={"decay": 0.99}, capabilities=every_update, owns=evaluates),
        Component("callback", swa, example={"start": "0.5dur"}, capabilities=every_update, owns=evaluates),
        Component("callback", lawa, example={"last": 3}, capabilities=shards, owns=evaluates),
        Component(
            "callback",
            several_views,
            name="test_time_augmentation",  # no function's: pytest would take it for a test
            example={"flip": True, "shift": 1},
            capabilities=shards,
            conflicts=("test_time_augmentation",),
        ),
        Component(
            "callback",
            threshold,
            example={"maximise": "f1"},
            capabilities={"lanes": False} | shards,
            conflicts=("threshold",),
        ),
        # What it thaws joins the updates later, in each run at its own time.
        Component(
            "callback",
            freeze,
            example={"match": ["body.*"]},
            capabilities={"lanes": False} | shards,
            conflicts=("freeze", "gradual_unfreeze"),
        ),
        Component(
            "callback",
            gradual_unfreeze,
            example={"every": "2ba", "layers": 2},
            capabilities={"lanes": False} | every_update,
            conflicts=("gradual_unfreeze",),
        ),
        Component("callback", norms, example={"groups": False}, capabilities=every_update, conflicts=("norms",)),
        Component(
            "callback",
            update_ratio,
            example={"every": "1ep"},
            capabilities=every_update,
            after=("freeze", "gradual_unfreeze", "lookahead"),  # what is trained, and by how much, is then settled
            conflicts=("update_ratio",),
        ),
        Component(
            "callback",
            keep_checkpoints,
            example={"cycles": 5},
            capabilities=shards,
            conflicts=("keep_checkpoints",),
        ),
        Component("callback", early_stop, example={"monitor": "val.loss", "patience": 3}, capabilities=shards),
        Component("callback", time_limit, example={"minutes": 55.0}, capabilities=shards),
    ]
