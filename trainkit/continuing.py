"""Texts that a finished run writes on: ``trainkit predict RUN --prompt TEXT``."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainkit.console import emit, emit_json, write_file
from trainkit.errors import DataError, PluginError, RunError, UsageError
from trainkit.predictions import check_writable

if TYPE_CHECKING:
    import argparse

    from torch import Tensor

    from trainkit.dataset import Vocabulary
    from trainkit.manager import Plugins
    from trainkit.protocols import Continues, Progress
    from trainkit.run import Run

TOKENS = 200


@dataclass(frozen=True)
class Wanted:
    """What a user wants to have written.

    Args:
        prompt: the text to go on from.
        tokens: how many tokens are written.
        temperature: what scores are divided by: at 0 the likeliest token is taken, at 1 all as the model has them.
        top_k: how many of the likeliest tokens are drawn from; ``None`` is all.
        seed: what is drawn follows from it; ``None`` takes the recipe's.
    """

    prompt: str
    tokens: int = TOKENS
    temperature: float = 1.0
    top_k: int | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Written:
    """What came of it.

    Args:
        text: the prompt and what follows.
        numbers: of the tokens that follow.
        seed: what they were drawn with.
    """

    text: str
    numbers: tuple[int, ...]
    seed: int


def check_wanted(args: argparse.Namespace) -> Wanted | None:
    """What the command line asks for, looked at before the work is done; ``None`` where there is no prompt.

    Raises:
        UsageError: if the options do not fit each other, or a number is out of its range.
        MachineError: if the file of ``--out`` cannot be written.
    """
    if args.prompt is None:
        own = {"--tokens": args.tokens, "--temperature": args.temperature, "--top-k": args.top_k, "--seed": args.seed}
        if stray := [name for name, value in own.items() if value is not None]:
            raise UsageError(f"{stray[0]} is for texts that a model writes on: add --prompt TEXT, or leave it out")
        return None
    if args.split is not None:
        raise UsageError(f"--split {args.split} and --prompt exclude each other: a text is of no split; leave one out")
    if not args.prompt:
        raise UsageError("--prompt is empty: write at least one character to go on from")
    tokens = TOKENS if args.tokens is None else args.tokens
    if tokens < 1:
        raise UsageError(f"--tokens {tokens}: write a whole number, at least 1")
    temperature = 1.0 if args.temperature is None else args.temperature
    if not 0 <= temperature < math.inf:
        raise UsageError(
            f"--temperature {temperature:g}: write a number, at least 0; 0 takes the likeliest token always"
        )
    if args.top_k is not None and args.top_k < 1:
        raise UsageError(f"--top-k {args.top_k}: write a whole number, at least 1")
    if args.seed is not None and not 0 <= args.seed < 2**63:
        raise UsageError(f"--seed {args.seed}: write a whole number, at least 0")
    if args.out is not None:
        check_writable(args.out)
    return Wanted(args.prompt, tokens, temperature, args.top_k, args.seed)


def continue_run(path: Path, wanted: Wanted, plugins: Plugins, progress: Progress) -> Written:
    """Let a finished run write on, with the weights that evaluations measure.

    Args:
        path: its folder, or one of its checkpoints.
        wanted: what to write.
        plugins: the plugins of this process.
        progress: told how many tokens are written.

    Raises:
        UsageError: if its data is no text, its model does not go on with one, or the prompt has unknown characters.
        CheckpointError: if no checkpoint can be used.
        RunError: if the model's scores are not finite.
    """
    from trainkit.finished import open_run

    run = open_run(path, plugins, progress)
    with contextlib.closing(run.feed):
        vocabulary, model = run.feed.spec.vocabulary, run.model
        if vocabulary is None:
            named = run.recipe["data"]["use"]
            raise UsageError(f"--prompt: {path} was trained on data '{named}', which is no text; leave --prompt out")
        if not hasattr(model, "following"):
            named = run.recipe["model"]["use"]
            cure = "leave --prompt out, or train one that does, such as gpt"
            raise UsageError(f"--prompt: model '{named}' of {path} does not write on from a text: {cure}")
        try:
            begin = vocabulary.encode(wanted.prompt)
        except DataError as error:
            raise UsageError(f"--prompt: {error}") from error
        if not begin:
            raise UsageError("--prompt comes to no token: write at least one character to go on from")
        return _continued(run, model, vocabulary, begin, wanted, progress)


def _continued(
    run: Run, model: Any, vocabulary: Vocabulary, begin: list[int], wanted: Wanted, progress: Progress
) -> Written:
    import torch

    seed = run.seed if wanted.seed is None else wanted.seed
    numbers: list[int] = []

    def writing(run: Run, split: str) -> dict[str, float]:
        training = model.training
        model.eval()
        try:
            with torch.inference_mode(), run.precision.context():
                numbers.extend(write_on(model, begin, wanted, seed, run.device, progress))
        finally:
            model.train(training)
        return {}

    # In the place of an evaluation: whoever exchanges the weights around evaluations does it here too.
    split = next(name for name in ("val", "test", "train") if name in run.feed.spec.sizes)
    run.hook.trainkit_evaluate.call_extra([writing], {"run": run, "split": split})
    if not numbers:
        raise PluginError(
            "a plugin measures in a way of its own, before all others, and leaves no room to write a text"
        )
    return Written(vocabulary.decode([*begin, *numbers]), tuple(numbers), seed)


def write_on(
    model: Continues, begin: list[int], wanted: Wanted, seed: int, device: Any, progress: Progress
) -> list[int]:
    """Draw tokens one by one, each from what the model says of it after all before.

    The numbers are drawn on the processor, in float64: the same scores give the same text on every device.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    tokens = torch.tensor([begin], device=device)
    state: Any = None
    numbers: list[int] = []
    for count in range(wanted.tokens):
        scores, state = model.following(tokens, state)
        numbers.append(draw(scores[0].double().cpu(), wanted, generator))
        tokens = tokens.new_tensor([numbers[-1:]])
        progress(count + 1, wanted.tokens, "writing" if count + 1 < wanted.tokens else "")
    return numbers


def draw(scores: Tensor, wanted: Wanted, generator: Any) -> int:
    """One token by its scores ``(outputs,)``.

    Raises:
        RunError: if the scores are not finite, as those of a model that diverged.

    Source: the k likeliest: Fan et al. 2018, "Hierarchical Neural Story Generation", section 5.1; arXiv 1805.04833.
    """
    if not scores.max().isfinite():  # what cannot come next may have minus infinity
        raise RunError(
            "the model's scores of the next token are not finite: train it anew with a smaller learning rate, or name "
            "an earlier checkpoint"
        )
    if wanted.temperature == 0:
        return int(scores.argmax())
    likeliest, numbers = scores.topk(min(wanted.top_k or len(scores), len(scores)))
    # From the best one down, so that a temperature of nearly nothing does not overflow.
    chances = ((likeliest - likeliest[0]) / wanted.temperature).softmax(dim=-1)
    return int(numbers[chances.multinomial(1, generator=generator)])


def show_written(written: Written, wanted: Wanted, run: str, out: str | None, as_json: bool) -> None:
    """Write the text to a file or to standard output, there with all that it followed from as JSON.

    Args:
        written: the text.
        wanted: what was asked for.
        run: the run folder, as the user wrote it.
        out: file to write; standard output if not given.
        as_json: write one JSON object to standard output.
    """
    if out is not None:
        write_file(out, written.text)
    if as_json:
        found: Mapping[str, Any] = {"out": out} if out is not None else {"text": written.text}
        asked = {"temperature": wanted.temperature, "top_k": wanted.top_k, "seed": written.seed}
        emit_json({"run": run, "prompt": wanted.prompt, "tokens": len(written.numbers), **asked, **found})
    else:
        emit(written.text if out is None else out)
