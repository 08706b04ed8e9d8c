from __future__ import annotations

import importlib.util
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

from trainkit.dataset import DataSpec
from trainkit.ensemble.aligned import Aligned
from trainkit.ensemble.together import Together
from trainkit.errors import MachineError, RunError, UsageError
from trainkit.export import command, programs
from trainkit.export.subjects import Exported, Subject, first_samples


class Mixture(nn.Module):
    """An ensemble in small: members behind a change of units, a temperature, and a variance."""

    def __init__(self, count: int, outputs: int) -> None:
        super().__init__()
        models = [
            nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, outputs)) for _ in range(count)
        ]
        self.together = Together([Aligned(model, torch.rand(4), torch.randn(4)) for model in models])
        self.eval().requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        given = (
            self.together(inputs).log_softmax(-1)
            if self.together.each[0].model[3].out_features > 1
            else self.together(inputs)
        )
        return given.logsumexp(0) / 1.5

    def variance(self, inputs: Tensor) -> Tensor:
        return self.together(inputs).var(0, unbiased=False)


def subject(module: nn.Module, task: Any = "classification", outputs: int = 3, variance: bool = False) -> Subject:
    torch.manual_seed(4)
    spec = DataSpec((4,), task, outputs, tuple("abc"[:outputs]) if task != "regression" else ())
    samples = torch.randn(11, 4)
    known = module.variance if variance else None  # type: ignore[union-attr]
    return Subject(
        Exported(module, task, known), spec, samples, "validation", [("the model 'small'", module)], {"classes": ["a"]}
    )  # type: ignore[arg-type]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Exports a subject as if a run folder held it."""

    def written(made: Subject, name: str, batch: int | None = None, say: Any = lambda text: None) -> dict[str, Any]:
        monkeypatch.setattr(command, "run_subject", lambda *args: made)
        return command.export(tmp_path / "run", tmp_path / name, batch, None, say=say)  # type: ignore[arg-type]

    return written


def test_a_program_of_torch_takes_any_batch_and_gives_what_the_model_gives(write, tmp_path, capfd):
    torch.manual_seed(0)
    model = Mixture(3, 3)
    made = write(subject(model), "a.pt2")
    extra = {programs.METADATA: ""}
    program = torch.export.load(str(tmp_path / "a.pt2"), extra_files=extra).module()
    for size in (1, 2, 30):
        inputs = torch.randn(size, 4)
        given = program(inputs)
        torch.testing.assert_close(given["outputs"], model(inputs), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(given["probabilities"], model(inputs).softmax(-1), rtol=1e-6, atol=1e-6)
    metadata = json.loads(extra[programs.METADATA])
    assert metadata["classes"] == ["a"]
    assert metadata["inputs"] == {"inputs": ["batch", 4]}
    assert metadata["outputs"] == made["outputs"] == {"outputs": ["batch", 3], "probabilities": ["batch", 3]}
    assert made["difference"] < 1e-6
    assert capfd.readouterr() == ("", "")


def test_no_sample_of_the_data_is_in_a_program(write, tmp_path):
    made = subject(nn.Sequential(nn.Linear(4, 3)).requires_grad_(False))
    write(made, "a.pt2")
    with zipfile.ZipFile(tmp_path / "a.pt2") as archive:
        contents = [archive.read(name) for name in archive.namelist()]
        (example,) = [name for name in archive.namelist() if "sample_inputs" in name]
        kept = torch.load(io.BytesIO(archive.read(example)), weights_only=True)
    assert not any(made.samples[0].numpy().tobytes() in content for content in contents)
    assert not kept[0][0].any()


def test_each_weight_is_in_a_program_once(write, tmp_path):
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(4, 3000)
            self.head = nn.Linear(3000, 3)
            self.same = [self.one]

        def forward(self, inputs: Tensor) -> Tensor:
            return self.head(self.same[0](inputs))

    write(subject(Twice().requires_grad_(False)), "a.pt2")
    assert (tmp_path / "a.pt2").stat().st_size < 1.5 * 4 * (3000 * 4 + 3000 + 9000 + 3) + 20_000


def test_a_program_of_onnx_says_what_it_takes_and_gives(write, tmp_path, capfd):
    import onnx
    import onnxruntime

    torch.manual_seed(0)
    model = Mixture(2, 3)
    made = write(subject(model), "a.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"), providers=["CPUExecutionProvider"])
    assert [(each.name, each.shape) for each in session.get_inputs()] == [("inputs", ["batch", 4])]
    assert [(each.name, each.shape) for each in session.get_outputs()] == [
        ("outputs", ["batch", 3]),
        ("probabilities", ["batch", 3]),
    ]
    for size in (1, 30):
        inputs = torch.randn(size, 4)
        outputs, probabilities = session.run(None, {"inputs": inputs.numpy()})
        numpy.testing.assert_allclose(outputs, model(inputs).numpy(), atol=1e-5)
        numpy.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    held = {each.key: each.value for each in onnx.load(str(tmp_path / "a.onnx")).metadata_props}
    assert json.loads(held[programs.METADATA])["classes"] == ["a"]
    assert list(made["checked"]) == [f"onnxruntime {onnxruntime.__version__}"]
    assert made["difference"] == max(made["checked"].values()) < 1e-5
    assert capfd.readouterr() == ("", "")


def test_a_regression_has_a_mean_and_where_it_is_known_a_variance(write, tmp_path):
    model = Mixture(2, 1)
    made = write(subject(model, "regression", 1, variance=True), "a.pt2")
    assert made["outputs"] == {"mean": ["batch", 1], "variance": ["batch", 1]}
    inputs = torch.randn(5, 4)
    program = torch.export.load(str(tmp_path / "a.pt2"))
    # What members give is computed once, for both: two linear layers each.
    assert [str(node.target) for node in program.graph.nodes].count("aten.linear.default") == 4
    given = program.module()(inputs)
    torch.testing.assert_close(given["mean"], model(inputs), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(given["variance"], model.variance(inputs), rtol=1e-6, atol=1e-6)
    assert write(subject(model, "regression", 1), "a.pt2")["outputs"] == {"mean": ["batch", 1]}


def test_a_binary_task_has_the_probability_of_the_second_class(write, tmp_path):
    model = nn.Linear(4, 1).requires_grad_(False)
    write(subject(model, "binary", 1), "a.pt2")
    inputs = torch.randn(5, 4)
    given = torch.export.load(str(tmp_path / "a.pt2")).module()(inputs)
    torch.testing.assert_close(given["probabilities"], model(inputs).sigmoid(), rtol=1e-6, atol=1e-6)


class Fixed(nn.Module):
    """Works for the size of batch that it first met."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs[:, :3] * torch.ones(len(inputs.tolist()) if type(inputs) is Tensor else int(inputs.shape[0]), 1)


def test_a_model_of_one_size_of_batch_is_exported_for_that(write, tmp_path):
    with pytest.raises(RunError, match=r"the model 'small' can be exported for batches of one size alone: .*constant"):
        write(subject(Fixed()), "a.pt2")
    made = write(subject(Fixed()), "a.pt2", batch=2)
    assert made["inputs"] == {"inputs": [2, 4]}
    assert made["samples"] == 11
    assert torch.export.load(str(tmp_path / "a.pt2")).module()(torch.ones(2, 4))["outputs"].shape == (2, 3)


def test_a_model_that_multiplies_its_batch_is_exported_for_any(write, tmp_path):
    class Repeating(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            rows = inputs[:, :3].repeat(2, 1)
            return (rows.reshape(2, -1, 3) * torch.tensor([[[1.0]], [[2.0]]])).flatten(0, 1).reshape(2, -1, 3).sum(0)

    write(subject(Repeating()), "a.pt2")
    program = torch.export.load(str(tmp_path / "a.pt2")).module()
    for size in (1, 5):
        assert program(torch.ones(size, 4))["outputs"].tolist() == [[3.0, 3.0, 3.0]] * size


def test_what_changes_in_place_is_computed_as_often_as_it_is_asked_for(write, tmp_path):
    class InPlace(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            held = inputs[:, :3].clone()
            first = held * 2
            held.add_(1)
            return first + held * 2

    write(subject(InPlace()), "a.pt2")
    program = torch.export.load(str(tmp_path / "a.pt2")).module()
    assert program(torch.ones(2, 4))["outputs"].tolist() == [[6.0, 6.0, 6.0]] * 2


class ByValue(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs[:, :3] if inputs.sum().item() > 0 else -inputs[:, :3]


class Drawn(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.dropout(inputs[:, :3], 0.5, training=True)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ByValue, "the model 'small' cannot be exported: .+\n  nothing was written"),
        (Drawn, "the program gives something else"),
    ],
)
def test_what_is_no_program_is_named_and_nothing_is_written(write, tmp_path, model, message):
    (tmp_path / "a.pt2").write_text("an older one")
    torch.manual_seed(0)
    with pytest.raises(RunError, match=message) as caught:
        write(subject(model()), "a.pt2")
    assert caught.value.exit_code == 4
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt2"]
    assert (tmp_path / "a.pt2").read_text() == "an older one"


class Masking(nn.Module):
    """Rules a class out."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs[:, :3].masked_fill(torch.tensor([False, True, False]), -torch.inf)


def test_outputs_that_rule_a_class_out_are_exported(write, tmp_path):
    assert write(subject(Masking()), "a.pt2")["difference"] < 1e-6
    program = torch.export.load(str(tmp_path / "a.pt2")).module()
    assert program(torch.ones(2, 4))["outputs"].tolist() == [[1.0, -torch.inf, 1.0]] * 2


@pytest.mark.parametrize("instead", [-5.0, torch.inf, torch.nan])
def test_a_number_in_the_place_of_an_infinite_one_is_something_else(instead):
    made = subject(Masking())

    def program(inputs: Tensor) -> dict[str, Tensor]:
        given = made.module(inputs)
        return {**given, "outputs": given["outputs"].masked_fill(given["outputs"].isinf(), instead)}

    with pytest.raises(RunError, match="the program gives something else than the model: outputs differs by"):
        programs.compare(made.module, program, made.samples, None, "torch")


def test_of_an_ensemble_the_member_that_cannot_be_exported_is_named(write):
    good, bad = nn.Linear(4, 3).requires_grad_(False), ByValue()
    made = subject(Together([good, bad]))
    made.parts = [
        ("the model 'linear' of a", good),
        ("the model 'odd' of b", bad),
        ("the ensembler 'seeds'", made.module),
    ]
    with pytest.raises(RunError, match=r"^the model 'odd' of b cannot be exported"):
        write(made, "a.pt2")
    made.parts = [("the model 'linear' of a", good), ("the ensembler 'seeds'", made.module)]
    with pytest.raises(RunError, match=r"^the ensembler 'seeds' cannot be exported"):
        write(made, "a.pt2")


def test_without_onnxruntime_it_is_said_that_nothing_was_checked_by_it(write, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name))
    monkeypatch.setattr(programs, "to_onnx", lambda *args: b"a program")
    said: list[str] = []
    made = write(subject(nn.Linear(4, 3).requires_grad_(False)), "a.onnx", say=said.append)
    assert ["pip install 'trainkit[export]'" in text for text in said] == [True]
    assert not any("onnxruntime" in name for name in made["checked"])


def test_without_onnx_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else found(name))
    with pytest.raises(MachineError, match=r"needs onnxscript; install .+ pip install 'trainkit\[export\]'") as caught:
        command.check_out(str(tmp_path / "a.onnx"))
    assert caught.value.exit_code == 3
    assert command.check_out(str(tmp_path / "a.pt2")) == tmp_path / "a.pt2"


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("a.pt", UsageError, r"ends in .pt2 \(torch.export\) or .onnx"),
        ("folder.onnx", UsageError, "it is a folder"),
        ("nowhere/a.pt2", MachineError, "cannot be written: No such file or directory"),
        ("file/a.pt2", MachineError, "cannot be written: Not a directory"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path, name, kind, message):
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(kind, match=message):
        command.check_out(str(tmp_path / name))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", "٣", str(1 << 30)])
def test_a_size_of_batch_that_is_none(text):
    with pytest.raises(UsageError, match="write dynamic, or a whole number"):
        command.check_batch(text)
    assert command.check_batch("dynamic") is None
    assert command.check_batch("8") == 8


def test_a_single_sample_is_taken_twice():
    class One:
        inputs = torch.ones(1, 4)

    assert first_samples(iter([One()])).shape == (2, 4)  # type: ignore[list-item]
