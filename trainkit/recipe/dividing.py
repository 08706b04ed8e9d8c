"""What a recipe may not have where the model is divided among processes (``strategy = "fsdp"``)."""

from __future__ import annotations

from collections.abc import Iterator

from trainkit.errors import Problem
from trainkit.recipe.filled import Recipe, named

_DDP = 'write strategy = "ddp" in [run], which gives every process the whole model'


def check_divided(recipe: Recipe) -> Iterator[Problem]:
    """Find what would take rows of weights for whole ones, and what cannot follow weights that come and go."""
    run = recipe.tables.get("run", {})
    if run.get("strategy") != "fsdp":
        return
    at = recipe.tables.place
    for path, component in recipe.making_updates():
        if not (component.capabilities.get("elementwise") or component.capabilities.get("shards")):
            message = f"{named(path, component)} looks at whole weights, and fsdp gives each process some of their rows"
            cure = f"{_DDP}, or choose an optimizer that treats each number by itself, such as adamw"
            yield Problem(at((*path, "use")), message, cure)
    for path, component in recipe.components.items():
        if component.kind == "callback" and not component.capabilities.get("shards"):
            message = (
                f"{named(path, component)} is not known to work where each process has some rows of the weights, as "
                "with fsdp"
            )
            yield Problem(at((*path, "use")), message, f"{_DDP}, or leave it out")
    if run.get("compile") in ("model", "step"):
        message = (
            f'[run] compile = "{run["compile"]}" cannot follow weights that are gathered layer by layer, as with fsdp'
        )
        yield Problem(at(("run", "compile")), message, f"write compile = false, or {_DDP}")
    if run.get("precision") == "float16":
        message = '[run] precision = "float16": its loss scaler looks at whole gradients, of which fsdp has rows'
        yield Problem(at(("run", "precision")), message, f'write precision = "bfloat16", or {_DDP}')
    if run.get("microbatch") == "auto":
        message = '[run] microbatch = "auto": where memory runs out in one process, the others of fsdp wait for it'
        yield Problem(at(("run", "microbatch")), message, "write the number of samples")
