"""The process that compiles while another trains: ``python -P -m trainkit.compile_child FOLDER``.

It builds the run from its recipe, makes one update of its own, compiles the updates of one call, tries the library
against what was compiled in this process, and leaves it with a word on each of its arguments.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from trainkit.artefact import ENTRY, Artefact, Library, answer, digest_of, labels, shape_of
from trainkit.build import prepare
from trainkit.compilable import burnt_in, hooked, lacking, obstacle
from trainkit.compile_cache import CompileCache
from trainkit.dataset import Batch
from trainkit.direct import OPTIONS, Direct, Unfit
from trainkit.manager import Plugins
from trainkit.protocols import silent
from trainkit.recipe import load_recipe
from trainkit.run import Run
from trainkit.steps import EagerStep
from trainkit.traced import Traced


def main(folder: Path) -> None:
    """Compile as ``order.json`` in the folder says, and leave ``result.json`` there."""
    order = json.loads((folder / "order.json").read_text(encoding="utf-8"))
    left = [folder]  # what is removed where nobody else is there to do it
    signal.signal(signal.SIGTERM, lambda *_: _end(left))
    threading.Thread(target=_end_with, args=(order["process"], left), daemon=True).start()
    os.nice(order["nice"])
    torch.set_num_threads(order["threads"])
    try:
        plugins = Plugins(order["modules"], order["without"])
        recipe = load_recipe(Path(order["recipe"]), [], plugins)
        run = prepare(recipe, plugins, folder, silent, say=lambda text: None, begins=False)
        run.model.train()
        cache = CompileCache(order["key"], lambda text: None)
        if cache.private:
            left.append(cache.folder)
        artefact = compiled(run, order["updates"], order["keep_outputs"], cache)
    except Unfit as error:
        answer(folder, {"error": str(error)})
    except Exception as error:  # whatever a model or the compiler raises is told by the process that trains
        said = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
        answer(folder, {"error": f"{type(error).__name__}: {' '.join(said[:2]) if said[0].endswith(':') else said[0]}"})
    else:
        cache.publish()
        artefact.write(folder)
        _wait()


def compiled(run: Run, updates: int, keep_outputs: bool, cache: CompileCache) -> Artefact:
    """Compile the updates of one call.

    Raises:
        Unfit: if they cannot be one library.
    """
    if reason := obstacle(run) or hooked(run.model) or lacking():
        raise Unfit(reason)
    need = updates * run.clock.accumulate
    batches: list[Batch] = []
    while len(batches) < need:  # an epoch may be shorter than a call
        before = len(batches)
        full = (batch for batch in run.feed.train(run.epoch) if len(batch) == run.feed.batch_size)
        batches += [Batch(*(part.clone() for part in batch)) for batch in islice(full, need - before)]
        if len(batches) == before:
            raise Unfit("no batch is a full one")
    for impl in reversed(run.hook.trainkit_run_start.get_hookimpls()):
        if hasattr(impl.plugin, "trainkit_gradients"):  # it may get ready there; what others do there is the run's own
            impl.function(*[run for _ in impl.argnames])
    EagerStep(run, keep_outputs)([batches[: run.clock.accumulate]])
    traced = Traced(run, updates, keep_outputs)
    direct = Direct(traced.function, {"cpp_wrapper": True, **OPTIONS})
    moving = traced.moving(batches)
    with cache.used():
        direct.guarded(moving)
    if direct.unfit or not direct.ready:
        raise Unfit(direct.unfit or "its results are not those of one graph")
    path, module = _library()
    named = {id(tensor): name for name, tensor in labels(run.model, run.loss, run.optimizer).items()}
    arguments = direct.arguments(moving)
    places = {id(tensor): f"moving {number}" for number, tensor in enumerate(moving)}
    words = [places.get(id(value)) or named.get(id(value)) for value in arguments]
    if None in words:
        raise Unfit("it needs a tensor that is neither a weight nor of the loss")
    _try(Library(str(path), module), direct, arguments, moving)
    described = [(str(word), *shape_of(value)) for word, value in zip(words, arguments, strict=True)]
    marks = burnt_in(run)
    used = os.times()
    seconds = used.user + used.system + used.children_user + used.children_system
    return Artefact(str(path), digest_of(path), module, described, direct.results, marks, seconds)


def _library() -> tuple[Path, str]:
    """The one library with an entry that this process has loaded, and the name of its module."""
    found = [(Path(str(module.__file__)), name) for name, module in sys.modules.items() if name.endswith(f".{ENTRY}")]
    if len(found) != 1:
        raise Unfit(f"{len(found)} libraries were made of it")
    return found[0]


def _try(library: Library, direct: Direct, arguments: list[Tensor], moving: list[Tensor]) -> None:
    """Hold the library to the compiled program: the same results and the same changes, bit for bit."""
    source = _library()[0].with_suffix(".cpp").read_text(encoding="utf-8")
    taken = re.search(r"steal_from_raw_handles_to_raii_handles\(input_handles, (\d+)\)", source)
    if taken is None or int(taken[1]) != len(arguments):
        raise Unfit("the library takes other tensors than the program")
    copies = [value.detach().clone(memory_format=torch.preserve_format) for value in arguments]
    state = torch.get_rng_state()
    ours = library(copies)
    torch.set_rng_state(state)
    theirs = direct.direct(moving)
    for mine, place in zip(theirs, direct.results, strict=True):
        if isinstance(mine, Tensor) and not torch.equal(mine, ours[int(place)]):
            raise Unfit("the library gives other results than the program")
    if not all(torch.equal(a, b) for a, b in zip(copies, arguments, strict=True)):
        raise Unfit("the library changes other tensors than the program")


def _end_with(process: int, left: list[Path]) -> None:
    """End where the process that trains has ended, however it did."""
    while os.getppid() == process:
        time.sleep(1)
    _end(left)


def _end(left: list[Path]) -> None:
    """End at once, with the compilers that were started, and leave nothing."""
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _wait() -> None:
    """Stay until this process is ended: what lies in its cache goes with it."""
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
