"""How the updates of a run are executed: one by one, in parts, divided among processes, compiled."""

from __future__ import annotations

from trainkit.divided import DividedStep
from trainkit.microbatch import MicrobatchedClosureStep, MicrobatchedStep
from trainkit.protocols import StepProgram
from trainkit.recipe import Recipe, fill_toml
from trainkit.replicas import replica_program
from trainkit.run import Run
from trainkit.steps import ClosureStep, HookStep, eager_step, implemented


def make_program(recipe: Recipe, run: Run) -> StepProgram:
    """Choose how updates are executed."""
    keep_outputs = bool(run.metrics)
    program: StepProgram
    parted = run.recipe["run"]["microbatch"] is not None
    if run.group.size > 1:
        program = replica_program(recipe, run, keep_outputs)
        return program if run.sharded is None else DividedStep(run, keep_outputs)
    if any(part.capabilities.get("needs_closure") for _, part in recipe.making_updates()):
        program = (MicrobatchedClosureStep if parted else ClosureStep)(run, keep_outputs)
    elif run.recipe["run"]["compile"] == "step":
        from trainkit.compilable import untraceable
        from trainkit.compile_cache import CompileCache, program_key
        from trainkit.compiled import CompiledStep

        cache = CompileCache(program_key(run.recipe), run.say)
        program = CompiledStep(run, keep_outputs, _updates_per_call(recipe, run), untraceable(recipe, run), cache)
    else:
        program = MicrobatchedStep(run, keep_outputs) if parted else eager_step(run, keep_outputs)
    if run.recipe["run"]["compile"] == "auto":
        program = _auto(recipe, run, program, keep_outputs)
    return HookStep(run, program) if implemented(run, "trainkit_train_step") else program


def _updates_per_call(recipe: Recipe, run: Run) -> int:
    from trainkit.compilable import choose_updates_per_call

    every_update = any(part.capabilities.get("every_update") for part in recipe.components.values())
    wanted: int | None = 1 if every_update else run.recipe["run"]["updates_per_call"]
    return wanted or choose_updates_per_call(run, intervals(run))


def _auto(recipe: Recipe, run: Run, eager: StepProgram, keep_outputs: bool) -> StepProgram:
    """Eager updates that become compiled ones where that pays; the eager ones alone, said once, where they cannot."""
    from trainkit.background import AutoStep
    from trainkit.compilable import obstacle, untraceable
    from trainkit.compile_cache import program_key

    settings, reason = run.recipe["run"], obstacle(run) or untraceable(recipe, run)
    if run.device.type != "cpu":
        reason = f'on {run.device.type}, compile = "step" is for those who ask for it'
    elif settings["microbatch"] is not None or settings["nonfinite"] == "skip":
        reason = 'microbatch and nonfinite = "skip" decide on single updates'
    elif implemented(run, "trainkit_train_step") is not None:
        reason = "a plugin makes the updates itself"
    if reason:
        run.say(f'compile = "auto" is not used: {reason}; the run stays eager')
        return eager
    own = [plugin.module for plugin in recipe.plugins.plugins if plugin.version == "not installed"]
    order = {
        "text": fill_toml(recipe),
        "modules": [str(module.__file__) for module in own if module],
        "without": recipe.plugins.without,
    }
    return AutoStep(run, eager, keep_outputs, _updates_per_call(recipe, run), order, program_key(run.recipe))


def intervals(run: Run) -> list[int]:
    """Updates between two points at which something is due."""
    names = ("log_every", "evaluate_every", "save_every")
    return [run.clock.updates_per_epoch, *(max(1, run.clock.updates(run.recipe["run"][name])) for name in names)]
