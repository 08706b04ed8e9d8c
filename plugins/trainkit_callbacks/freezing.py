"""Parameters that stay as they are, for the whole run or until their time has come."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from trainkit import Problem, RecipeError, Run, hookimpl
from trainkit_callbacks.names import matches, near_names, problem, refuse_strangers


class Freeze:
    """See `trainkit_callbacks.freeze`.

    What is frozen is a function of ``run.step`` alone, asked again before the first update of each epoch and after
    each update: there is no state, so a continued run has what an uninterrupted one has.
    """

    stateless = True

    def __init__(self, match: Sequence[str], unfreeze: Mapping[str, int], fix_batch_norm: bool) -> None:
        self.match = match
        self.unfreeze = unfreeze
        self.fix_batch_norm = fix_batch_norm
        self.waiting: list[tuple[int, str]] = []
        self.thawing: list[tuple[int, Tensor]] = []
        self.fixed: list[tuple[int, nn.Module]] = []
        self.last = max(unfreeze.values(), default=-1)

    def thaws_at(self, name: str) -> int | None:
        """The update from which on a frozen parameter is trained; ``None`` for never."""
        return min((when for pattern, when in self.unfreeze.items() if matches(name, [pattern])), default=None)

    @hookimpl
    def trainkit_prepare_model(self, run: Run, model: nn.Module) -> None:
        parameters = dict(model.named_parameters())
        refuse_strangers(run, "freeze", "match", self.match, list(parameters))
        frozen = {name: parameter for name, parameter in parameters.items() if matches(name, self.match)}
        if problems := [*self._misfits(run, list(frozen)), *self._idle(run, frozen, parameters)]:
            raise RecipeError(problems)
        self.waiting = []
        for name, parameter in frozen.items():
            if (when := self.thaws_at(name)) is None:
                parameter.requires_grad_(False)
            else:  # an optimizer's group takes what will be trained, which at this point is what can be
                self.waiting.append((when, name))
        if self.fix_batch_norm:
            self._fix(model)

    def _misfits(self, run: Run, frozen: Sequence[str]) -> Iterator[Problem]:
        for pattern, when in self.unfreeze.items():
            setting = "unfreeze", pattern
            if not any(matches(name, [pattern]) for name in frozen):
                message = f'unfreeze: "{pattern}" matches no parameter that is frozen'
                cure = f"frozen parameters are named like {near_names(pattern, frozen)}"
                yield problem(run, "freeze", setting, message, cure)
            elif when >= run.total_updates:
                message = f'unfreeze: "{pattern}" is for update {when}, the run ends at {run.total_updates}'
                yield problem(run, "freeze", setting, message, "unfreeze it earlier, or lengthen the run")

    def _idle(
        self, run: Run, frozen: Mapping[str, nn.Parameter], parameters: Mapping[str, nn.Parameter]
    ) -> Iterator[Problem]:
        """A problem where nothing is trained at first; where nothing ever is, the core has its own."""
        free = any(p.requires_grad for name, p in parameters.items() if name not in frozen)
        if not free and (times := [when for name in frozen if (when := self.thaws_at(name)) is not None]):
            message = f"match: every parameter is frozen until update {min(times)}"
            yield problem(run, "freeze", "match", message, "leave some out of match: an update must train something")

    def _fix(self, model: nn.Module) -> None:
        self.fixed = []
        for name, module in model.named_modules():
            if not isinstance(module, nn.modules.batchnorm._BatchNorm):
                continue
            own = [f"{name}.{part}" for part in ("weight", "bias")]  # their names also where it has none
            if not all(matches(part, self.match) for part in own):
                continue
            _hold(module)
            times = [self.thaws_at(part) for part in own]
            if known := [when for when in times if when is not None]:
                self.fixed.append((min(known), module))

    def _set(self, run: Run) -> None:
        for when, parameter in self.thawing:
            parameter.requires_grad_(run.step >= when)
        for when, layer in self.fixed:
            if run.step >= when:
                _release(layer, run.model.training)
            else:
                _hold(layer)

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        # By name: the model may have been divided among processes since, and the optimizer have its rows.
        self.thawing = []
        if self.waiting:
            groups = run.optimizer.param_groups
            rows = {name: p for group in groups for name, p in zip(group["names"], group["params"], strict=True)}
            parameters = dict(run.model.named_parameters())
            for when, name in self.waiting:
                self.thawing += [(when, held[name]) for held in (parameters, rows) if name in held]
        self._set(run)

    @hookimpl
    def trainkit_epoch_start(self, run: Run) -> None:
        # A continued run comes here, too, before its first update; what was restored until then is restored.
        self._set(run)

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        if run.step <= self.last:
            self._set(run)


def _hold(layer: nn.Module) -> None:
    """Keep a layer in evaluation mode: the model's own ``train()`` reaches each layer's, whoever calls it."""
    layer.train = types.MethodType(_stay, layer)  # type: ignore[method-assign]
    layer.eval()


def _release(layer: nn.Module, training: bool) -> None:
    if "train" in vars(layer):
        del layer.train
        layer.train(training)


def _stay(self: nn.Module, mode: bool = True) -> nn.Module:
    """`torch.nn.Module.train` of a layer that stays in evaluation mode."""
    return nn.Module.train(self, False)
