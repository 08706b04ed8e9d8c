"""The parts of cuda.py that time one way of training beside another."""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cuda_loops import raw_loops
from cuda_runs import MLP, MODULES, RECIPE, RESNET, Here, against, in_turns, tell, timed
from random_images import images
from tiled_digits import tiled
from torch import nn

from trainkit.manager import Plugins
from trainkit.recipe import load_recipe


def loop(here: Here, name: str, given: dict[str, Any], model: Callable[[], nn.Module], data: Any) -> None:
    """The loop with all logging on against loops by hand, eager and compiled."""
    epochs, size = here.few(4, 1), given["batch"]
    found = in_turns(raw_loops(model, data, size, epochs, here.device, here.dry), here.few(2, 1))
    compiled = {key: values for key, values in found.items() if "compiled" in key}
    base = min(compiled or found, key=lambda key: statistics.median(found[key]))
    ours = {
        "trainkit": (),
        'trainkit, compile = "step"': ("run.compile=step",),
        "trainkit, one update a call": ("run.compile=step", "run.updates_per_call=1"),
        "trainkit, no CUDA graphs": ("run.compile=step", "run.cuda_graphs=false"),
    }
    if here.dry:
        ours = dict(list(ours.items())[:1])
    found |= in_turns(
        {
            key: lambda changes=changes: timed(here, *changes, epochs=1 + epochs, **given)
            for key, changes in ours.items()
        },
        here.few(2, 1),
    )
    tell(f"{name}: base", base)
    against(found, base, {'trainkit, compile = "step"': 1.0})


def loop_mlp(here: Here) -> None:
    """A model so small that calls take longer than kernels."""
    updates = here.few(500, 4)
    given = {"data": "tiled_digits", "model": MLP, "updates": updates, "batch": 64}
    loop(
        here,
        "MLP 64-128-10, batch 64",
        given,
        lambda: nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)),
        tiled(updates, 64),
    )


def loop_resnet(here: Here) -> None:
    """A small convolutional model."""
    from trainkit import DataSpec
    from trainkit_models.residual import ResNet

    updates, batch = here.few(100, 2), here.few(128, 8)
    spec = DataSpec((3, 32, 32), "classification", 10, tuple("0123456789"))
    given = {"data": "random_images", "model": RESNET.format(depth=8), "updates": updates, "batch": batch}
    loop(
        here,
        f"ResNet-8, batch {batch}",
        given,
        lambda: ResNet(spec, depth=8, width=1.0, shortcut="auto", stem="auto", zero_init_residual=False),
        images(updates * batch),
    )


def lanes(here: Here, name: str, count: int, target: float, given: dict[str, Any]) -> None:
    """Updates of many runs at once against one after another; then a study of as many trials, both ways."""
    from trainkit.cli import main
    from trainkit.lanes.speed import speed_of

    plugins = Plugins(MODULES)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        file = Path(folder) / "recipe.toml"
        tuned = {"bfloat16, tuned": ("run.precision=bfloat16", "run.tune_convolutions=true")}
        plain = {precision: (f"run.precision={precision}",) for precision in ("bfloat16", "float32")}
        cases = {"float32": plain["float32"]} if here.dry else plain | (tuned if "resnet" in given["model"] else {})
        for case, changes in cases.items():
            file.write_text(RECIPE.format(**{"epochs": 1, "run": "", "more_data": "", "device": here.device, **given}))
            speed = speed_of(load_recipe(file, list(changes), plugins), plugins, count)
            said = (
                speed.obstacle
                or f"{1e6 * speed.alone:.0f} µs alone, {1e6 * speed.together:.1f} µs as one of {speed.lanes}"
            )
            ratio = speed.alone / speed.together if speed.together else 0.0
            with contextlib.redirect_stdout(sys.__stdout__):
                tell(
                    f"updates of {count} x {name}, {case}",
                    f"{said}: {ratio:.1f}x",
                    f"{target:g}x",
                    ratio >= target,
                )
        took = {}
        for executor in ("lanes", "serial"):
            text = RECIPE.format(
                **{"epochs": here.few(4, 1), "run": "", "more_data": "", "device": here.device, **given}
            )
            text += f'[search]\nuse = "random"\ntrials = {count}\ntest = false\nexecutor = {{ use = "{executor}" }}\n'
            text += '[search.space]\n"optimizer.lr" = { low = 1e-3, high = 0.3, scale = "log" }\n'
            file.write_text(text)
            begun = time.perf_counter()
            words = [word for module in MODULES for word in ("-p", module)]
            code = main(["run", str(file), "--run-dir", f"{folder}/{executor}", "-q", "--without", "reports", *words])
            took[executor] = time.perf_counter() - begun
            if code:
                raise RuntimeError(f"the study with {executor} ended with {code}")
    ratio = took["serial"] / took["lanes"]
    tell(
        f"a study of {count} x {name}",
        f"{took['serial']:.1f} s one after another, {took['lanes']:.1f} s as lanes: {ratio:.1f}x",
        f"{target:g}x",
        ratio >= target,
    )


def lanes_mlp(here: Here) -> None:
    """64 small MLPs."""
    lanes(
        here,
        "MLP 64-128-10",
        here.few(64, 2),
        20.0,
        {"data": "tiled_digits", "model": MLP, "updates": here.few(250, 4), "batch": 64},
    )


def lanes_resnet(here: Here) -> None:
    """32 ResNet-8."""
    given = {
        "data": "random_images",
        "model": RESNET.format(depth=8),
        "updates": here.few(25, 2),
        "batch": here.few(128, 4),
    }
    given["more_data"] = f"measured = {here.few(512, 8)}"
    lanes(here, "ResNet-8", here.few(32, 2), 4.0, given)


def layout(here: Here) -> None:
    """What memory layout and number format are worth."""
    given = {
        "data": "random_images",
        "model": RESNET.format(depth=20),
        "updates": here.few(40, 2),
        "batch": here.few(512, 4),
    }
    cases = {
        f"ResNet-20, {precision}, {'channels last' if last == 'true' else 'channels first'}": (
            f"run.precision={precision}",
            f"run.channels_last={last}",
        )
        for precision in (("float32",) if here.dry else ("float32", "bfloat16"))
        for last in ("false", "true")
    }
    best = ("run.precision=bfloat16", "run.channels_last=true", "run.tune_convolutions=true")
    cases |= {} if here.dry else {"ResNet-20, bfloat16, channels last, tuned": best}
    contenders = {
        key: lambda changes=changes: timed(here, *changes, epochs=here.few(4, 2), **given)
        for key, changes in cases.items()
    }
    against(in_turns(contenders, 1), next(iter(cases)), {})


def loading(here: Here) -> None:
    """Data on the device against data that is copied there batch by batch."""
    given = {
        "data": "random_images",
        "model": RESNET.format(depth=8),
        "updates": here.few(60, 2),
        "batch": here.few(512, 4),
    }
    crop = "data.augment=[{use='random_crop'}, {use='flip'}]"
    cases = {"resident, augmented on the device": ("data.loading=resident", crop)}
    cases |= {
        f"streamed, workers = {n}": ("data.loading=streamed", f"data.workers={n}", crop)
        for n in (0, *([] if here.dry else (2, 8)))
    }
    contenders = {
        f"ResNet-8, {key}": lambda changes=changes: timed(here, *changes, epochs=here.few(4, 2), **given)
        for key, changes in cases.items()
    }
    against(in_turns(contenders, 1), "ResNet-8, resident, augmented on the device", {})
