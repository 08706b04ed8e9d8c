from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch

from trainkit.cli import main
from trainkit.ensemble.opened import load_ensemble
from trainkit.export.command import export
from trainkit.finished import predict_run
from trainkit.manager import Plugins


@pytest.fixture(scope="module")
def made(run_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """An ensemble of finished runs, made when it is first asked for; nobody changes it."""
    home = tmp_path_factory.mktemp("ensembles")

    def ensemble(*names: str) -> Path:
        folder = home / "+".join(names)
        words = [str(run_of(name)) for name in names]
        if not folder.exists():
            assert main(["ensemble", *words, "--use", "seeds", "--out", str(folder), "bootstrap=2", "-q"]) == 0
        return folder

    return ensemble


def test_a_run_is_exported_with_the_weights_that_evaluations_measure(run_of, plugins: Plugins, tmp_path: Path) -> None:
    folder = run_of("averaged")
    found = export(folder, tmp_path / "a.pt2", None, plugins)
    predicted = predict_run(folder, "test", plugins)
    assert found["origin"] == "validation"
    extra = {"trainkit.json": ""}
    program = torch.export.load(str(tmp_path / "a.pt2"), extra_files=extra).module()
    metadata = json.loads(extra["trainkit.json"])
    assert metadata["classes"] == ["class_0", "class_1", "class_2"]
    assert metadata["task"] == "classification"
    assert len(metadata["recipe_sha256"]) == len(metadata["data_sha256"]) == 64
    inputs = _test_inputs(folder, plugins)
    torch.testing.assert_close(program(inputs)["outputs"], predicted["outputs"], rtol=1e-5, atol=1e-5)


def test_one_onnx_file_holds_the_whole_ensemble_with_temperature(
    made, run_of, plugins: Plugins, tmp_path: Path
) -> None:
    import onnxruntime

    folder = made("a", "b", "raw-inputs")
    ensemble = load_ensemble(folder, plugins)
    assert ensemble.temperature != 1
    found = export(folder, tmp_path / "e.onnx", None, plugins, is_ensemble=True)
    assert found["difference"] < 1e-5
    session = onnxruntime.InferenceSession(str(tmp_path / "e.onnx"), providers=["CPUExecutionProvider"])
    inputs = _test_inputs(run_of("a"), plugins)
    outputs, probabilities = session.run(None, {"inputs": inputs.numpy()})
    expected = ensemble(inputs)
    torch.testing.assert_close(torch.from_numpy(outputs), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(probabilities), expected.softmax(-1), rtol=1e-4, atol=1e-5)
    (held,) = [
        entry.value for entry in onnx.load(str(tmp_path / "e.onnx")).metadata_props if entry.key == "trainkit.json"
    ]
    metadata = json.loads(held)
    assert metadata["temperature"] == ensemble.temperature
    assert metadata["members"] == 3
    assert metadata["ensemble_sha256"] == ensemble.sha256


def test_members_of_a_regression_answer_in_the_units_of_the_ensemble(made, plugins: Plugins, tmp_path: Path) -> None:
    folder = made("number-fold-0", "number-fold-1")
    export(folder, tmp_path / "e.pt2", None, plugins, is_ensemble=True)
    ensemble = load_ensemble(folder, plugins)
    inputs = torch.randn(9, *ensemble.spec.input_shape)
    given = torch.export.load(str(tmp_path / "e.pt2")).module()(inputs)
    torch.testing.assert_close(given["mean"], ensemble(inputs), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(given["variance"], ensemble.variance(inputs), rtol=1e-5, atol=1e-5)
    assert bool((given["variance"] > 0).all())


def test_the_command_writes_what_it_wrote(run_of, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.pt2"
    (checkpoint, *_) = sorted((run_of("a") / "checkpoints").iterdir())
    assert main(["export", str(checkpoint), "--out", str(out), "--batch", "2", "--json"]) == 0
    written = capfd.readouterr()
    assert written.err == ""
    found = json.loads(written.out)
    assert found["run"] == str(checkpoint)
    assert found["outputs"] == {"outputs": [2, 3], "probabilities": [2, 3]}
    assert found["bytes"] == out.stat().st_size
    assert main(["export", str(run_of("a")), "--out", str(out)]) == 0
    written = capfd.readouterr()
    assert written.err == ""
    assert "inputs  batch x 13\noutputs  batch x 3\nprobabilities  batch x 3\nlargest difference " in written.out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere", "--out", "a.pt2"], 2, "nowhere: no such run folder"),
        ([".", "--out", "a.pt2"], 2, "not a run folder"),
        ([".", "--out", "a.pt"], 2, "ends in .pt2"),
        ([".", "--out", "nowhere/a.pt2"], 3, "cannot be written"),
        ([".", "--out", "a.pt2", "--batch", "all"], 2, "--batch all: write dynamic"),
        (["."], 2, "required: --out"),
    ],
)
def test_what_cannot_be_exported_is_one_message(words, code, message, tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", *words]) == code
    written = capfd.readouterr()
    assert message in written.err
    assert written.err.count("trainkit: ") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_altered_ensemble_is_not_exported(made, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(made("a", "b", "raw-inputs"), tmp_path / "ensemble"))
    (weights, *_) = (folder / "weights").iterdir()
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert main(["export", str(folder), "--out", str(tmp_path / "e.pt2")]) == 5
    assert weights.name in capfd.readouterr().err
    assert not (tmp_path / "e.pt2").exists()


def test_an_ensemble_whose_data_is_gone_is_checked_with_made_up_samples(
    made, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainkit.errors import DataError
    from trainkit.export import subjects

    def gone(*args: object) -> None:
        raise DataError("digits.csv: no such file\n  bring it back")

    monkeypatch.setattr(subjects, "base_of", gone)
    said: list[str] = []
    found = export(made("a", "b", "raw-inputs"), tmp_path / "e.pt2", None, plugins, is_ensemble=True, say=said.append)
    assert said == ["note: the program is checked with made-up samples: digits.csv: no such file"]
    assert found["origin"] == "made-up"


def _test_inputs(folder: Path, plugins: Plugins) -> torch.Tensor:
    from trainkit.finished import open_run

    return torch.cat([batch.inputs for batch in open_run(folder, plugins).feed.evaluate("test")])
