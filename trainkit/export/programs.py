"""A module as the bytes of a program, and whether the program gives what the module does."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.ensemble.together import reproducibly
from trainkit.errors import MachineError, RunError, TrainkitError, UsageError
from trainkit.export.subjects import Exported, Subject

TOLERANCE = 1e-4  # of what the module gives, where that is larger than 1; float32 rounds to about a thousandth of it
METADATA = "trainkit.json"  # under this name a program holds what must be known of it
INSTALL = "pip install 'trainkit[export]'"
_LARGEST = (1 << 31) - (1 << 20)  # bytes that a file of ONNX's format, protobuf, may have
Program = Callable[[Tensor], Mapping[str, Tensor]]


def check_libraries(suffix: str) -> None:
    """Check that what writes a format is installed.

    Raises:
        MachineError: naming the command that installs it.
    """
    missing = [name for name in ("onnx", "onnxscript") if suffix == ".onnx" and importlib.util.find_spec(name) is None]
    if missing:
        raise MachineError(f"a .onnx file needs {' and '.join(missing)}; install what is missing with: {INSTALL}")


def trace(subject: Subject, batch: int | None) -> Any:
    """The module as a `torch.export.ExportedProgram`.

    Args:
        subject: the module, and samples.
        batch: samples of each call; ``None`` for any number.

    Raises:
        RunError: if it cannot be exported, naming the component whose code is why.
    """
    samples = sized(subject.samples, batch or min(len(subject.samples), 7))
    try:
        return _traced(subject.module, samples, batch)
    except Exception as error:
        raise _cannot(subject, samples, batch, error) from error


def to_pt2(program: Any, metadata: Mapping[str, Any]) -> bytes:
    """The file of a traced program."""
    written = io.BytesIO()
    with quiet():
        torch.export.save(program, written, extra_files={METADATA: json.dumps(metadata, indent=1)})
    return written.getvalue()


def to_onnx(program: Any, metadata: Mapping[str, Any], names: Sequence[str], batch: int | None) -> bytes:
    """One ONNX file, weights included.

    Raises:
        RunError: if ONNX lacks an operation, or the file would be too large.
    """
    held = {id(tensor): tensor for tensor in (*program.state_dict.values(), *program.constants.values())}
    if sum(t.numel() * t.element_size() for t in held.values() if isinstance(t, Tensor)) > _LARGEST:
        raise RunError("one .onnx file holds 2 GiB at most, and these weights are more; nothing was written")
    shapes = None if batch is not None else {"inputs": {0: "batch"}}
    try:
        with quiet():
            found: Any = torch.onnx.export(
                program,
                dynamo=True,
                input_names=["inputs"],
                output_names=list(names),
                dynamic_shapes=shapes,
                verbose=False,
            )
            found.model.metadata_props[METADATA] = json.dumps(metadata)
            written: bytes = found.model_proto.SerializeToString()
            return written
    except Exception as error:
        raise RunError(f"ONNX has no such program: {_first_line(error)}\n  a .pt2 file may do") from error


def from_pt2(data: bytes) -> Program:
    """A program that was written, as torch reads it."""
    with quiet():
        program: Program = torch.export.load(io.BytesIO(data)).module()
    return program


def from_onnx(data: bytes) -> tuple[Program, str] | None:
    """A program that was written, as onnxruntime reads it, and how that is called; ``None`` without onnxruntime."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    with quiet():
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def call(inputs: Tensor) -> Mapping[str, Tensor]:
        given = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
        return {name: torch.from_numpy(array) for name, array in zip(names, given, strict=True)}

    return call, f"onnxruntime {onnxruntime.__version__}"


def compare(module: Exported, program: Program, samples: Tensor, batch: int | None, by: str) -> float:
    """The largest difference between what a module gives and a program does.

    Args:
        module: the module.
        program: the program.
        samples: to call both with, all of them; where any number is to do, one alone and three too.
        batch: samples of each call; ``None`` for any number.
        by: how messages call the program.

    Raises:
        RunError: if they differ by more than `TOLERANCE`.
    """
    worst, count = 0.0, len(samples)
    if batch is None:
        calls = [sized(samples, size) for size in sorted({1, min(3, count), count})]
    else:
        calls = [sized(samples.roll(-first, 0), batch) for first in range(0, count, batch)]
    for inputs in calls:
        with torch.no_grad(), quiet(), reproducibly():
            expected = module(inputs)
            try:
                given = program(inputs)
            except Exception as error:
                raise RunError(
                    f"the program fails in {by} with {len(inputs)} samples: {_first_line(error)}; nothing was written"
                ) from error
        for name, wanted in expected.items():
            found = given[name]
            if found.shape != wanted.shape:
                raise RunError(f"{name} has another shape in {by}; nothing was written")
            same = (found == wanted) | (found.isnan() & wanted.isnan())  # infinities too, as of classes that are masked
            apart = (found.double() - wanted.double()).abs().masked_fill(same, 0.0)
            worst = max(worst, float(apart.max()))
            if not bool((apart.isfinite() & (apart <= TOLERANCE * wanted.double().abs().clamp(min=1))).all()):
                raise RunError(
                    f"the program gives something else than the model: {name} differs by {float(apart.max()):.2g} in "
                    f"{by}, and {TOLERANCE:g} is allowed; nothing was written\n  a model that draws random numbers, "
                    "or one whose code depends on what it is given, cannot be exported"
                )
    return worst


def sized(samples: Tensor, size: int) -> Tensor:
    """So many of the samples, from the first on and again."""
    return samples[torch.arange(size) % len(samples)]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What torch, ONNX and their helpers have to say is for those who write exporters."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _traced(module: nn.Module, samples: Tensor, batch: int | None) -> Any:
    shapes = None if batch is not None else ({0: torch.export.Dim.DYNAMIC},)
    with torch.no_grad(), quiet():
        # What is said of a size stays with the tensor, and a program keeps what it was traced with: no sample of the
        # data is to go with it.
        program = torch.export.export(module, (torch.zeros_like(samples),), dynamic_shapes=shapes, strict=False)
        _compute_once(program)
        return program


def _compute_once(program: Any) -> None:
    """Let a program compute once what it asks for twice, such as what members give, for a mean and for a variance."""
    operations = [node for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload)]
    if any(node.target._schema.is_mutable for node in operations):
        return  # what is asked for twice may have changed in between
    # With an operation that gives several tensors goes what takes each of them: a file can name it once.
    nodes = [
        node
        for node in program.graph.nodes
        if isinstance(node.target, torch._ops.OpOverload) or node.target is operator.getitem
    ]
    known: dict[tuple[Any, str], Any] = {}
    for node in nodes:
        same = known.setdefault((node.target, repr((node.args, node.kwargs))), node)  # a node is shown as its name
        given = any(user.op == "output" for user in node.users)  # the program's signature names it
        drawn = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        if same is not node and not given and not drawn:
            node.replace_all_uses_with(same)
            program.graph.erase_node(node)
    program.graph_module.recompile()


def _cannot(subject: Subject, samples: Tensor, batch: int | None, error: Exception) -> TrainkitError:
    """What is wrong, and which component's code is why: the first that cannot be exported by itself, else the last."""
    name, cause = subject.parts[-1][0], error
    for called, part in subject.parts[:-1]:
        try:
            _traced(part, samples, batch)
        except Exception as own:
            name, cause = called, own
            break
    if batch is None:
        with contextlib.suppress(Exception):
            _traced(subject.module, samples, len(samples))
            return RunError(
                f"{name} can be exported for batches of one size alone: {_first_line(cause)}\n"
                "  nothing was written; name that size, such as --batch 1"
            )
    if isinstance(cause, UsageError):
        return cause
    return RunError(
        f"{name} cannot be exported: {_first_line(cause)}\n"
        "  nothing was written; its code must be torch's operations on tensors, whatever numbers they hold"
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Constraints violated"):  # and no more than that
        lines = lines[1:]
    return (lines[0] if lines else type(error).__name__)[:300]
