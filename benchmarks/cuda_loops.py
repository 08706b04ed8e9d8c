"""Training loops by hand on a CUDA device: plain, compiled, and with CUDA graphs, as PyTorch's pages have them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Loops = dict[str, Callable[[], list[float]]]


def raw_loops(
    model: Callable[[], nn.Module], data: tuple[Tensor, Tensor], batch: int, epochs: int, device: str, dry: bool
) -> Loops:
    """Contenders that train on data on the device, in bfloat16, channels last, with a fused SGD, and do nothing else.

    Args:
        model: makes the model.
        data: inputs and targets.
        batch: samples in a batch.
        epochs: epochs that are timed; one more comes before.
        device: where to.
        dry: leave out what is compiled.
    """
    modes: dict[str, dict[str, Any] | None] = {"raw": None, "raw, compiled": {}}
    modes["raw, compiled, reduce-overhead"] = {"mode": "reduce-overhead"}
    modes["raw, compiled whole step, reduce-overhead"] = {"mode": "reduce-overhead", "whole": True}
    if dry:
        modes = {"raw": None}
    return {name: lambda mode=mode: _train(model, data, batch, epochs, device, mode) for name, mode in modes.items()}


def _train(
    model: Callable[[], nn.Module],
    data: tuple[Tensor, Tensor],
    batch: int,
    epochs: int,
    device: str,
    mode: dict[str, Any] | None,
) -> list[float]:
    torch.manual_seed(0)
    torch._dynamo.reset()
    cuda, images = device == "cuda", data[0].dim() == 4
    network = model().to(device)
    if images:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    inputs, targets = (part.to(device) for part in data)
    if images:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, fused=True)

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=cuda):
            return nn.functional.cross_entropy(network(x), y)

    options = dict(mode or {})
    whole = options.pop("whole", False)

    def step(x: Tensor, y: Tensor) -> None:
        loss_of(x, y).backward()
        optimizer.step()
        optimizer.zero_grad()

    if whole:
        step = torch.compile(step, **options)
    elif mode is not None:
        loss_of = torch.compile(loss_of, **options)
    seconds = []
    for epoch in range(1 + epochs):
        if cuda:
            torch.cuda.synchronize()
        begun = time.perf_counter()
        order = torch.randperm(len(inputs), device=device)
        for index in order.split(batch):
            if options:
                torch.compiler.cudagraph_mark_step_begin()
            step(inputs.index_select(0, index), targets.index_select(0, index))
        if cuda:
            torch.cuda.synchronize()
        if epoch:
            seconds.append((time.perf_counter() - begun) / (len(inputs) // batch))
    return seconds
