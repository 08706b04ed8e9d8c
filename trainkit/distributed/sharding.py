"""A model whose parameters are divided among the processes of a group, by torch's FSDP2.

Each process keeps some rows of every parameter, of its gradient and of what the optimizer knows of it; a layer's
parameters are whole for as long as the layer is at work. The optimizer, callbacks and checkpoints are given the rows
that are here, as plain tensors in the same memory: what treats each number, or each row, by itself need not know.

Source: Zhao et al. 2023, "PyTorch FSDP", arXiv 2304.11277; Rajbhandari et al. 2020, "ZeRO", arXiv 1910.02054.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trainkit.distributed.group import Group
from trainkit.errors import CheckpointError, RunError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def divides(strategy: str, group: Group) -> bool:
    """Whether a run with this ``strategy`` divides its model among the processes of a group."""
    return strategy == "fsdp" and group.size > 1


LEAST = 1 << 18  # numbers in a layer that is gathered by itself; smaller ones travel with the rest of the model
_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class Sharded:
    """A model that is divided, and this process's part of it.

    Args:
        model: with the same weights in every process, on its device; it is changed in place.
        group: the processes.
        sample: inputs of the model, which show what layers it calls.

    Raises:
        ValueError: naming a parameter that cannot be divided, or a torch that cannot do it.
    """

    def __init__(self, model: nn.Module, group: Group, sample: Tensor) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard

        if not hasattr(FSDPModule, "set_force_sum_reduction_for_comms"):
            raise ValueError(f"fsdp takes a newer torch than {torch.__version__}, which cannot but average gradients")
        if single := [name for name, parameter in model.named_parameters() if not parameter.dim()]:
            raise ValueError(f"the parameter '{single[0]}' is a single number, which has no rows to divide")
        self.group = group
        self.model = model
        for parameter in model.parameters():  # FSDP takes no other layout; inputs may be in channels_last all the same
            parameter.data = parameter.data.contiguous()
        self._mesh = init_device_mesh(sample.device.type, (group.size,))
        for layer in layers_apart(model, sample):
            fully_shard(layer, mesh=self._mesh, reshard_after_forward=True)
        # True also for what is left: an evaluation would otherwise leave whole weights there, which soon are old ones.
        fully_shard(model, mesh=self._mesh, reshard_after_forward=True)
        self._parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
        for part in self._parts:
            # Each process has weighed its loss by its share of the batch: gradients are summed, by sums alone, which
            # are all that gloo has.
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)
        self.whole: dict[str, DTensor] = dict(model.named_parameters())  # type: ignore[arg-type]
        first = {id(parameter): name for name, parameter in self.whole.items()}
        # Every name of a parameter, of tied ones too, with the one that it has in all other tables.
        self.names = {name: first[id(p)] for name, p in model.named_parameters(remove_duplicate=False)}
        self._gathered = False
        self.own: dict[str, nn.Parameter] = {}
        for name, divided in self.whole.items():
            self.own[name] = nn.Parameter(rows_here(divided), requires_grad=divided.requires_grad)

    # ------------------------------------------------------------ updates

    def exchanged(self, groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Parameter groups of the model as it was, with the rows that are here in place of the parameters."""
        return [{**group, "params": [self.own[name] for name in group["names"]]} for group in groups]

    def begin(self) -> None:
        """Forget the gradients."""
        for name, parameter in self.whole.items():
            parameter.grad = self.own[name].grad = None

    def summing(self, last: bool) -> None:
        """Say whether the backward pass that comes is the ``last`` of an update, after which gradients are summed."""
        root: Any = self.model
        root.set_requires_gradient_sync(last)

    def collect(self) -> None:
        """Give the rows that are here their gradients, which the backward pass has left summed in the model."""
        for name, parameter in self.whole.items():
            own = self.own[name]
            own.grad = None if parameter.grad is None else rows_here(parameter.grad)

    def follow(self) -> None:
        """Let the rows that are here be trained, or not, as the parameters of the model are: it may be thawed."""
        for name, parameter in self.whole.items():
            if self.own[name].requires_grad != parameter.requires_grad:
                self.own[name].requires_grad_(parameter.requires_grad)

    # ------------------------------------------------------------ when the run is over

    def gather(self) -> None:
        """Let the first process have whole weights, as far as its memory goes: what follows a run is its alone.

        Collective. Nothing is trained afterwards. Without whole weights the model refuses to be called.
        """
        size = sum(parameter.numel() * parameter.itemsize for parameter in self.whole.values())
        if self.group.from_first(size * 2 > _free(next(iter(self.own.values())).device)):
            self.close("its weights do not fit into one process")
            return
        for part in self._parts:
            part.unshard()
            if self.group.first:
                part.set_reshard_after_forward(False)
            else:
                part.reshard()
        self._gathered = self.group.first

    def close(self, why: str = "the processes no longer work together") -> None:
        """Let the model refuse to be called, unless this process has whole weights: it would wait for the others."""

        def refuse(module: nn.Module, given: object) -> None:
            raise RunError(f"the model is divided among processes, and {why}")

        if not self._gathered:
            self.model.register_forward_pre_hook(refuse, prepend=True)

    # ------------------------------------------------------------ what a checkpoint holds

    def divided(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A checkpoint's tensors with those marked that are rows: as parts of what all processes have together.

        These are the parameters, and whatever the optimizer and callbacks keep under the name of one and in its shape.
        Collective: a tensor counts as rows where it does in every process.
        """
        owners = {name: owner for name in tensors if (owner := self._owner(name)) is not None}
        alike = [int(tensors[name].shape == self.own[owner].shape) for name, owner in owners.items()]
        votes = self.group.sum_(torch.tensor(alike, dtype=torch.int64)).tolist() if alike else []
        found = dict(tensors)
        for (name, owner), count in zip(owners.items(), votes, strict=True):
            if count == self.group.size:
                found[name] = _rows_of(self.whole[owner], tensors[name].detach().contiguous(), self._mesh)
        return found

    def room(self, shapes: Mapping[str, tuple[tuple[int, ...], torch.dtype]]) -> dict[str, Tensor]:
        """Memory for a checkpoint's tensors: for the rows that belong here of those that are divided here.

        Args:
            shapes: shape and type of each whole tensor.

        Raises:
            CheckpointError: naming a weight of another shape than the model's.
        """
        found: dict[str, Tensor] = {}
        for name, (shape, dtype) in shapes.items():
            owner = self._owner(name)
            whole = self.whole[owner] if owner is not None else None
            if whole is None or tuple(whole.shape) != tuple(shape):
                if whole is not None and name.startswith("model/"):
                    raise CheckpointError(
                        "the checkpoint does not fit the model: "
                        f"{owner} is {tuple(shape)} {dtype}, the model's {tuple(whole.shape)} {whole.dtype}"
                    )
                found[name] = torch.empty(shape, dtype=dtype)
                continue
            rows = torch.empty(self.own[owner].shape, dtype=dtype)  # type: ignore[index]
            found[name] = _rows_of(whole, rows, self._cpu_mesh)
        return found

    @functools.cached_property
    def _cpu_mesh(self) -> Any:
        from torch.distributed.device_mesh import init_device_mesh

        return self._mesh if self._mesh.device_type == "cpu" else init_device_mesh("cpu", (self.group.size,))

    def _owner(self, name: str) -> str | None:
        """The parameter that a tensor of a checkpoint belongs to, by its name; ``None`` where it belongs to none."""
        kind, _, rest = name.partition("/")
        if kind == "model":
            return self.names.get(rest)
        if kind == "optimizer":  # <parameter>/<what is kept of it>
            cuts = [rest[:at] for at, letter in enumerate(rest) if letter == "/"]
            return next((cut for cut in cuts if cut in self.whole), None)
        if kind == "plugin":  # whatever the object's own tables are called, their last key is the parameter's name
            cuts = [rest[at + 1 :] for at, letter in enumerate(rest) if letter == "/"]
            return next((cut for cut in cuts if cut in self.whole), None)
        return None


def _free(device: torch.device) -> int:
    """Bytes of memory that are free, or of a processor half of what there is."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return 1 << 33


def rows_here(tensor: Tensor) -> Tensor:
    """A tensor as this process has it: of one that is divided its rows, in the same memory; any other as it is."""
    if not hasattr(tensor, "to_local"):
        return tensor
    with torch.no_grad():
        rows: Tensor = tensor.to_local()
    return rows


def whole(tensor: Tensor) -> Tensor:
    """A tensor with the rows of all processes; any that is not divided as it is. Collective."""
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


# ---------------------------------------------------------------- which layers are gathered by themselves


def layers_apart(model: nn.Module, sample: Tensor) -> list[nn.Module]:
    """The layers of a model that are gathered one by one while it is at work, from the input to the head.

    Each is large, is called by the model itself, and shares no parameter with another; what is left is gathered as one.
    """
    holders = Counter(id(parameter) for module in model.modules() for parameter in module.parameters(recurse=False))
    candidates = [
        layer
        for layer in _opened(model)
        if sum(parameter.numel() for parameter in layer.parameters()) >= LEAST
        and all(holders[id(parameter)] == 1 for parameter in layer.parameters())
    ]
    return _called(model, candidates, sample)


def _opened(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if type(child) in _LISTS:
            yield from _opened(child)
        else:
            yield child


def _called(model: nn.Module, layers: Sequence[nn.Module], sample: Tensor) -> list[nn.Module]:
    """Those of some layers whose call the model goes through: it may use the weights of others without calling them."""
    met: list[nn.Module] = []
    hooks = [layer.register_forward_pre_hook(lambda called, given: met.append(called)) for layer in layers]
    modes = {part: part.training for part in model.modules()}
    try:
        model.eval()
        if hooks:
            with torch.no_grad():
                model(sample)
    finally:
        for hook in hooks:
            hook.remove()
        for part, mode in modes.items():
            part.training = mode
    return [layer for layer in layers if any(layer is one for one in met)]


def _rows_of(whole: Any, rows: Tensor, mesh: Any) -> Tensor:
    """Rows that lie in this process as a part of a tensor that is divided as ``whole`` is, among those of a mesh."""
    from torch.distributed.tensor import DTensor

    stride = torch.empty(whole.shape, device="meta").stride()
    return DTensor.from_local(rows, mesh, whole.placements, run_check=False, shape=whole.shape, stride=stride)
