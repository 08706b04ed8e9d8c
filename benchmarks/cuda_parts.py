"""The parts of cuda.py: each prints its rows, one JSON object a line, as soon as it has them.

    python benchmarks/cuda_parts.py PART ... [--dry] [--data FOLDER]

Contenders run one after the other, twice in turn, on a device that nobody else uses. What is timed of a run are whole
epochs, with log lines, evaluations and checkpoints, after one epoch in which kernels are compiled and recorded.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from cuda_runs import HERE, MLP, RESNET, Here, run, tell
from cuda_timed import lanes_mlp, lanes_resnet, layout, loading, loop_mlp, loop_resnet

from trainkit.manager import Plugins
from trainkit.recipe import load_recipe


def machine(here: Here) -> None:
    """What it is that was measured on."""
    name = "the CPU (dry)" if here.dry else torch.cuda.get_device_name()
    tell("device", name)
    tell(
        "torch",
        f"{torch.__version__}, CUDA {torch.version.cuda}, Python {sys.version.split()[0]}, {os.cpu_count()} cores",
    )
    if not here.dry:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            query = ["nvidia-smi", "--query-gpu=driver_version,clocks.max.sm,memory.total", "--format=csv,noheader"]
            tell(
                "driver, clock, memory",
                subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.strip(),
            )


def waits(here: Here) -> None:
    """How often this process waits for the device while updates are made, as torch counts it."""
    from trainkit import execution

    make, heard = execution.make_updates, list[str]()

    def make_updates(stretch: Any) -> None:
        if here.dry or stretch.run.position == 0:
            return make(stretch)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as found:
                warnings.simplefilter("always")
                make(stretch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        heard.extend(str(one.message) for one in found if "synchroniz" in str(one.message))
        return None

    execution.make_updates = make_updates
    updates = here.few(150, 4)  # results are taken in after 128
    images, clip = (
        {"data": "random_images", "model": RESNET.format(depth=8)},
        "callback=[{use='clip_norm', max_norm=1.0}]",
    )
    cases = {
        "MLP": ({"data": "tiled_digits", "model": MLP}, [clip]),
        "MLP, compiled": ({"data": "tiled_digits", "model": MLP}, ["run.compile=step"]),
        "ResNet-8, crop and flip": (images, ["data.augment=[{use='random_crop'}, {use='flip'}]", clip]),
        "ResNet-8, streamed": (images, ["data.loading=streamed", "data.workers=0"]),
        "ResNet-8, streamed by 2 workers": (images, ["data.loading=streamed", "data.workers=2"]),
    }
    if here.dry:
        cases = {name: case for name, case in cases.items() if "compiled" not in name and "workers" not in name}
    for name, (given, changes) in cases.items():
        heard.clear()
        run(here, *changes, epochs=3, updates=updates, batch=here.few(64, 8), **given)
        first = f" ({heard[0][:80]})" if heard else ""
        tell(f"waits in {2 * updates} updates: {name}", f"{len(heard)}{first}", "0", not heard)
    execution.make_updates = make


def tests(here: Here) -> None:
    """The tests that need a device."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "-m",
        "cuda",
        "-p",
        "no:cacheprovider",
        "tests/core/test_cuda.py",
    ]
    command += ["--collect-only"] if here.dry else []
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            tell("test", line[:300], "", False)
    tell("tests marked cuda", lines[-1] if lines else done.stderr[-200:], "all pass", done.returncode == 0)


def memory(here: Here) -> None:
    """What a report says of memory, and what microbatch = "auto" does where there is too little of it."""
    given = {"data": "random_images", "updates": 2, "batch": here.few(2048, 8)}
    report = run(here, model=RESNET.format(depth=20), **given)
    tell(
        f"ResNet-20, batch {given['batch']}: memory of the report",
        report.memory,
        "",
        report.memory is not None or here.dry,
    )
    plain = '[model]\nuse = "convnet"\nwidths = [64, 64]\nnorm = "none"'
    whole = run(here, "run.precision=float32", model=plain, **given)
    if not here.dry:
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(
            (torch.cuda.memory_reserved() + 0.5 * whole.memory["reserved"]) / total
        )
    parts = run(here, "run.precision=float32", 'run.microbatch="auto"', model=plain, **given)
    apart = abs(parts.metrics["train.loss"] / whole.metrics["train.loss"] - 1)
    tell(
        'microbatch = "auto" in half of the memory',
        f"{parts.microbatch or 'all'} of {given['batch']} samples at once; loss apart by {apart:.1e}",
        "1e-3",
        apart <= 1e-3,
    )


def speed(here: Here) -> None:
    """The recipe to 94 % on CIFAR-10, where a tree of its pictures is there; nothing is downloaded."""
    recipe = HERE.parent / "recipes" / "cifar10_speed.toml"
    if not here.data:
        tell("recipes/cifar10_speed.toml", "not tried: no data was given (--data)")
        return
    given = Path(here.data).resolve()
    tree = given if (given / "train").is_dir() else next(given.glob("*/train")).parent
    own = load_recipe(recipe, [], Plugins()).tables["data"]
    changes = [", ".join(f"{key} = {json.dumps(value)}" for key, value in one.items()) for one in own["augment"]]
    augment = ", ".join(f"{{{change}}}" for change in changes)
    data = (
        f'data={{use = "image_folder", path = "{tree.name}", batch_size = {own["batch_size"]}, drop_last = true, '
        f'train_on = "train+val", augment = [{augment}]}}'
    )
    with tempfile.TemporaryDirectory() as folder:
        for number in range(here.few(3, 1)):
            command = [
                sys.executable,
                "-m",
                "trainkit",
                "run",
                str(recipe),
                data,
                "--run-dir",
                f"{folder}/{number}",
                "-q",
                f"seed={number}",
            ]
            command += ["--smoke", "run.device=cpu"] if here.dry else []
            begun = time.perf_counter()
            done = subprocess.run(
                command, capture_output=True, text=True, env=os.environ | {"TRAINKIT_DATA": str(tree.parent)}
            )
            wall = time.perf_counter() - begun
            if done.returncode:
                raise RuntimeError(done.stderr.strip()[-300:])
            if not here.dry:
                report = json.loads((Path(folder) / str(number) / "report.json").read_text())
                reached = report["metrics"].get("test.accuracy", 0.0)
                tell(
                    f"recipes/cifar10_speed.toml, seed {number}",
                    f"{reached:.4f} in {report['seconds']:.2f} s, {wall:.1f} s with start and test",
                    "0.94",
                    reached >= 0.94,
                )


ALL = {
    part.__name__: part
    for part in (machine, waits, tests, loop_mlp, loop_resnet, lanes_mlp, lanes_resnet, layout, loading, memory, speed)
}


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", choices=list(ALL), nargs="+", metavar="PART")
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--data", default="")
    options = parser.parse_args()
    if not options.dry and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device; --dry shows that the script works")
    for part in options.parts:
        ALL[part](Here(options.dry, options.data))


if __name__ == "__main__":
    main()
