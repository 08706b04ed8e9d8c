"""Ten members given one batch: one after another, stacked, and as `Together` does by itself; ratios of CPU seconds.

    python benchmarks/ensemble_inference.py [--quick] [--model NAME] [--members N] [--rounds N]

One after another is a loop over the members' modules and `torch.stack`. Weights are random, statistics of BatchNorms
too: how long it takes does not depend on them. One thread, no gradients.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence

import torch
from common import cpu_seconds, interleave, ratios, spread
from torch import Tensor, nn

from trainkit import Together
from trainkit.dataset import DataSpec
from trainkit_models.convolutional import ConvNet
from trainkit_models.dense import dense
from trainkit_models.residual import ResNet

IMAGES = DataSpec((1, 8, 8), "classification", 10)
MODELS: dict[str, Callable[[], nn.Module]] = {
    "MLP 64-128-10": lambda: dense(IMAGES.input_shape, 10, widths=(128,)),
    "MLP 64-128-128-10, BatchNorm": lambda: dense(IMAGES.input_shape, 10, widths=(128, 128), norm="batch"),
    "ConvNet 16-32": lambda: ConvNet(IMAGES, widths=(16, 32), activation="relu", dropout=0.0, norm="batch"),
    "ResNet-8, half as wide": lambda: ResNet(
        IMAGES, depth=8, width=0.5, shortcut="auto", stem="auto", zero_init_residual=False
    ),
}
SIZES = (1, 4, 16, 64, 256, 1024)


def members(make: Callable[[], nn.Module], count: int) -> list[nn.Module]:
    """Models in evaluation mode, whose statistics are not those of a beginning."""
    models = [make().eval().requires_grad_(False) for _ in range(count)]
    for model in models:
        for name, buffer in model.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.rand_like(buffer) + (0.5 if name.endswith("var") else 0))
    return models


def rounds_of(modules: Sequence[nn.Module], inputs: Tensor, rounds: int, seconds: float) -> tuple[list[float], ...]:
    """CPU seconds of a call, for each way and round."""

    def by_hand(given: Tensor) -> Tensor:
        return torch.stack([module(given) for module in modules])

    ways = {"loop": by_hand, "stacked": Together(modules, mode="stacked"), "measured": Together(modules)}
    calls = 1
    for way in ways.values():
        for _ in range(3):
            took = cpu_seconds(lambda way=way: way(inputs))  # type: ignore[misc]
        calls = max(calls, min(2000, round(seconds / max(took, 1e-7))))

    def contender(way: Callable[[Tensor], Tensor]) -> Callable[[], float]:
        def work() -> None:
            for _ in range(calls):
                way(inputs)

        return lambda: cpu_seconds(work) / calls

    found = interleave({name: contender(way) for name, way in ways.items()}, rounds)
    return found["loop"], found["stacked"], found["measured"]


def main() -> None:
    """Print a Markdown table for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few and short rounds, to see that it works")
    parser.add_argument("--model", choices=list(MODELS), action="append", help="only this model; may be repeated")
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    rounds, seconds = (2, 0.002) if args.quick else (args.rounds, 0.05)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for name in args.model or MODELS:
        print(f"### {name}, {args.members} members\n")
        print(
            "| batch | one after another, µs | stacked: x one after another | `Together` by itself |\n|---|---|---|---|"
        )
        modules = members(MODELS[name], args.members)
        for size in SIZES[:2] if args.quick else SIZES:
            with torch.no_grad():
                loop, stacked, measured = rounds_of(modules, torch.randn(size, *IMAGES.input_shape), rounds, seconds)
            micros = statistics.median(loop) * 1e6
            cells = " | ".join(spread(ratios(loop, way)) for way in (stacked, measured))
            print(f"| {size} | {micros:.0f} | {cells} |", flush=True)
        print()
    print(f"{rounds} interleaved rounds; CPU time of one thread: median ratio [smallest to largest], larger is faster.")


if __name__ == "__main__":
    main()
