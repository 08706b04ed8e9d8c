"""TensorBoard, MLflow and W&B: real where they are installed, and stand-ins of the few calls that are made of them."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import trainkit_trackers
from trainkit import Component, MachineError, Report
from trainkit.testing.listed import plugins_of
from trainkit.testing.tiny import run_tiny
from trainkit_trackers import of_mlflow
from trainkit_trackers.following import Follower
from trainkit_trackers.of_mlflow import OfMlflow
from trainkit_trackers.of_wandb import OfWandb

RECIPE = {"seed": 5, "optimizer": {"use": "sgd", "lr": 0.1}, "model": {"use": "mlp", "widths": [8]}}


def line(step: int, split: str, **figures: float | None) -> dict[str, Any]:
    return {"step": step, "epoch": step / 4, "split": split, "time": step / 10, **figures}


LINES = [
    line(2, "train", loss=0.9, **{"lr/0": 0.1}),
    line(4, "train", loss=0.8, **{"lr/0": 0.1}),
    line(4, "val", loss=0.85, accuracy=None),
    line(6, "train", loss=0.7, **{"lr/0": 0.05}),
]


def process(folder: Path, tracker: Follower, lines: list[dict[str, Any]], status: str = "") -> None:
    """One process of a run that writes these lines; without a status it is killed."""
    run: Any = SimpleNamespace(folder=folder, history=lines, recipe=RECIPE, metrics={"accuracy": None})
    folder.mkdir(parents=True, exist_ok=True)
    tracker.trainkit_run_start(run)
    tracker.trainkit_epoch_end(run, {})
    if status:
        tracker.trainkit_run_end(run, Report(status, "", 6, 1.0, 1.0, {}, None, ""))  # type: ignore[arg-type]


# ---------------------------------------------------------------- TensorBoard


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return {
        tag: [(event.step, round(event.value, 6)) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]
    }


def described(folder: Path) -> tuple[str, Any]:
    """The recipe that the text page has, and the hyperparameters."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    (text,) = found.Tensors("recipe/text_summary")
    held = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    return text.tensor_proto.string_val[0].decode(), HParamsPluginData.FromString(held).session_start_info.hparams


def test_tensorboard_shows_each_point_once_also_where_a_run_turns_back(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from trainkit_trackers.events import Events

    (tmp_path / "recipe.toml").write_text('[model]\nuse = "mlp"\n')
    process(tmp_path, first := Events(), LINES)  # killed; its checkpoint has the first two lines
    assert scalars(tmp_path) == {
        "train/loss": [(2, 0.9), (4, 0.8), (6, 0.7)],
        "lr/0": [(2, 0.1), (4, 0.1), (6, 0.05)],
        "val/loss": [(4, 0.85)],
    }
    process(tmp_path, Events(), LINES, "interrupted")
    assert scalars(tmp_path)["train/loss"] == [(2, 0.9), (4, 0.8), (6, 0.7)]
    changed = [*LINES[:2], line(4, "val", loss=0.5), line(6, "train", loss=0.4, **{"lr/0": 0.01})]
    process(tmp_path, Events(), changed, "finished")
    assert scalars(tmp_path) == {
        "train/loss": [(2, 0.9), (4, 0.8), (6, 0.4)],
        "lr/0": [(2, 0.1), (4, 0.1), (6, 0.01)],
        "val/loss": [(4, 0.5)],
    }
    first.close(None)  # type: ignore[arg-type]
    text, settings = described(tmp_path)
    assert text == '    [model]\n    use = "mlp"\n    '
    assert settings["optimizer.lr"].number_value == 0.1
    assert settings["model.widths"].string_value == "[8]"


def test_tensorboard_shows_once_what_a_killed_process_had_not_noted(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from trainkit_trackers.events import Events

    process(tmp_path, Events(), LINES, "interrupted")
    notes = tmp_path / ".tensorboard-lines"
    notes.write_bytes(notes.read_bytes()[: len(notes.read_bytes()) // 4])  # that of the first line
    process(tmp_path, Events(), LINES, "finished")
    assert scalars(tmp_path) == {
        "train/loss": [(2, 0.9), (4, 0.8), (6, 0.7)],
        "lr/0": [(2, 0.1), (4, 0.1), (6, 0.05)],
        "val/loss": [(4, 0.85)],
    }


# ---------------------------------------------------------------- MLflow


class Service:
    """The part of MLflow's client that is used."""

    def __init__(self, **fails: BaseException) -> None:
        self.fails = fails
        self.calls: list[Any] = []
        self.figures: list[Any] = []
        self.settings: dict[str, str] = {}
        self.experiments: dict[str, str] = {}
        self.hangs: threading.Event | None = None

    def __call__(self, tracking_uri: str) -> Service:
        self.calls.append(("client", tracking_uri))
        return self

    def _note(self, *call: Any) -> None:
        if self.hangs is not None:
            self.hangs.wait(60)
        self.calls.append(call)
        if error := self.fails.get(call[0]):
            raise error

    def get_experiment_by_name(self, name: str) -> Any:
        found = self.experiments.get(name)
        return None if found is None else SimpleNamespace(experiment_id=found)

    def create_experiment(self, name: str) -> str:
        self._note("create_experiment", name)
        self.experiments[name] = "7"
        return "7"

    def create_run(self, experiment: str, run_name: str) -> Any:
        self._note("create_run", experiment, run_name)
        return SimpleNamespace(info=SimpleNamespace(run_id="r1"))

    def update_run(self, run: str, status: str) -> None:
        self._note("update_run", run, status)

    def log_batch(self, run: str, metrics: Any = (), params: Any = ()) -> None:
        assert len(metrics) <= 1000
        assert len(params) <= 100
        self.figures += [(one.key, one.value, one.step) for one in metrics]
        self.settings |= {one.key: one.value for one in params}

    def set_terminated(self, run: str, status: str) -> None:
        self._note("set_terminated", run, status)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """Stands in for MLflow in this process, whether it is installed or not."""
    made = Service()
    modules = {name: ModuleType(name) for name in ("mlflow", "mlflow.entities", "mlflow.exceptions")}
    modules["mlflow"].MlflowClient = made  # type: ignore[attr-defined]
    modules["mlflow.entities"].Metric = lambda key, value, timestamp, step: SimpleNamespace(  # type: ignore[attr-defined]
        key=key, value=value, step=step
    )
    modules["mlflow.entities"].Param = lambda key, value: SimpleNamespace(key=key, value=value)  # type: ignore[attr-defined]
    modules["mlflow.exceptions"].MlflowException = KeyError  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")  # which the tracker sets for the whole process
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    yield made
    if made.hangs is not None:
        made.hangs.set()
    for thread in threading.enumerate():  # before the real modules are back
        if thread.name == "trainkit-mlflow":
            thread.join()


def test_a_continued_run_goes_on_with_its_run_in_mlflow(tmp_path: Path, service: Service) -> None:
    folder = tmp_path / "runs" / "a"
    process(folder, OfMlflow("digits"), LINES[:3], "interrupted")
    process(folder, OfMlflow("digits"), LINES, "finished")
    assert [call for call in service.calls if call[0] != "client"] == [
        ("create_experiment", "digits"),
        ("create_run", "7", "a"),
        ("set_terminated", "r1", "KILLED"),
        ("update_run", "r1", "RUNNING"),
        ("set_terminated", "r1", "FINISHED"),
    ]
    assert service.calls[0] == ("client", (folder / "mlruns").as_uri())
    assert [figure for figure in service.figures if figure[0] == "train/loss"] == [
        *(("train/loss", 0.9, 2), ("train/loss", 0.8, 4), ("train/loss", 0.7, 6)),
    ]
    assert service.settings["optimizer.lr"] == "0.1"
    assert json.loads((folder / "mlflow.json").read_text())["run"] == "r1"


def test_a_run_that_goes_on_at_another_server_is_there_whole(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    process(tmp_path / "a", OfMlflow(""), LINES[:2], "interrupted")
    (tmp_path / "a").rename(tmp_path / "b")  # moved, it is the same
    process(tmp_path / "b", OfMlflow(""), LINES[:3], "interrupted")
    assert [call[0] for call in service.calls].count("create_run") == 1
    del service.figures[:]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example")
    process(tmp_path / "b", OfMlflow(""), LINES, "finished")
    assert [call[0] for call in service.calls].count("create_run") == 2
    assert [step for key, _, step in service.figures if key == "train/loss"] == [2, 4, 6]


def test_trials_of_a_study_are_one_experiment(tmp_path: Path, service: Service) -> None:
    study = tmp_path / "runs" / "my-study"
    study.mkdir(parents=True)
    (study / "recipe.toml").touch()
    process(study / "trials" / "3", OfMlflow(""), LINES, "finished")
    assert ("create_experiment", "my-study") in service.calls
    assert ("create_run", "7", "trials/3") in service.calls
    assert service.calls[0] == ("client", (study / "mlruns").as_uri())


def test_a_password_in_the_address_stays_out_of_the_run_folder(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@tracking.example/x")
    for _ in range(2):
        process(tmp_path / "a", OfMlflow(""), LINES, "finished")
    assert ("client", "https://me:secret@tracking.example/x") in service.calls
    assert [call[0] for call in service.calls].count("create_run") == 1
    assert all(b"secret" not in file.read_bytes() for file in (tmp_path / "a").iterdir())


def test_a_service_that_hangs_does_not_hold_up_the_end(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_mlflow, "PATIENCE", 0.05)
    service.hangs = threading.Event()
    with pytest.raises(MachineError, match=r"MLflow: TimeoutError: no answer in 0\.05 s"):
        process(tmp_path / "a", OfMlflow(""), LINES, "finished")


def test_a_tracker_that_fails_is_said_once_and_the_run_goes_on(
    tmp_path: Path, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    service.fails["create_run"] = ConnectionError("the server said no")
    plugins = plugins_of(Component("logger", trainkit_trackers.mlflow, "tracked"))
    plain = run_tiny(tmp_path, {}, plugins)
    run = run_tiny(tmp_path, {"logger": [{"use": "tracked"}]}, plugins)
    assert run.report.status == "finished"
    assert (run.report.weights_sha256, run.lines) == (plain.report.weights_sha256, plain.lines)
    told = capsys.readouterr().err
    assert told.count("the server said no") == 1
    assert "the logger 'tracked' failed in trainkit_" in told
    assert "defect" not in told


def test_mlflow_itself_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "runs" / "a"
    process(folder, OfMlflow(""), LINES[:3], "interrupted")
    process(folder, OfMlflow(""), LINES, "finished")
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=(folder / "mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("trainkit").experiment_id])
    assert (run.info.run_name, run.info.status) == ("a", "FINISHED")
    points = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in points] == [(2, 0.9), (4, 0.8), (6, 0.7)]
    assert run.data.params["model.widths"] == "[8]"


# ---------------------------------------------------------------- W&B


class Recorded:
    """A run of the stand-in."""

    def __init__(self, calls: list[Any], place: Path) -> None:
        self.calls = calls
        self.dir = str(place / "files")
        Path(self.dir).mkdir(parents=True)

    def define_metric(self, name: str, step_metric: str) -> None:
        self.calls.append(("define_metric", name, step_metric))

    def log(self, figures: dict[str, float]) -> None:
        self.calls.append(("log", figures))

    def finish(self, exit_code: int) -> None:
        self.calls.append(("finish", exit_code))


def test_wandb_is_offline_and_a_continued_run_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    module: Any = ModuleType("wandb")
    module.run = None
    module.Settings = lambda **given: given

    def init(**given: Any) -> Recorded:
        count = sum(1 for call in calls if call[0] == "init")
        calls.append(("init", given))
        return Recorded(calls, Path(given["dir"]) / "wandb" / f"offline-run-{count}-{given['id']}")

    module.init = init
    module.teardown = lambda: calls.append(("teardown",))
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    study = tmp_path / "study"
    folder = study / "trials" / "0"
    folder.mkdir(parents=True)
    (study / "recipe.toml").touch()
    process(folder, OfWandb("digits"), LINES[:2], "interrupted")
    process(folder, killed := OfWandb("digits"), LINES)  # its record is broken
    assert len(list((folder / "wandb").iterdir())) == 2
    of_killed = [call for call in calls if call[0] == "log"][2:]
    del calls[calls.index(of_killed[0]) :]
    process(folder, OfWandb("digits"), LINES, "finished")
    assert len(list((folder / "wandb").iterdir())) == 2, "what a killed process has recorded is recorded anew"
    begun = [given for what, given in (call for call in calls if call[0] == "init")]
    assert begun[0]["id"] == begun[1]["id"]
    assert {one["settings"]["mode"] for one in begun} == {"offline"}
    assert (begun[0]["group"], begun[0]["name"]) == ("study", "trials/0")
    assert [call[1] for call in calls if call[0] == "log"] == [
        {"step": 2, "epoch": 0.5, "train/loss": 0.9, "lr/0": 0.1},
        {"step": 4, "epoch": 1.0, "train/loss": 0.8, "lr/0": 0.1},
        {"step": 4, "epoch": 1.0, "val/loss": 0.85},
        {"step": 6, "epoch": 1.5, "train/loss": 0.7, "lr/0": 0.05},
    ]
    assert [call for call in calls if call[0] in ("finish", "teardown")] == [
        *(("finish", 1), ("teardown",)),
        ("finish", 0),  # the service stays for the one that was killed: here, it is in this process
    ]
    del killed


def test_wandb_itself_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("wandb") is None:
        pytest.skip("wandb is not installed")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    before = time.monotonic()
    for status in ("interrupted", "finished"):
        process(tmp_path / "a", OfWandb("digits"), LINES, status)
    assert time.monotonic() - before < 60, "nothing waits for a network"
    name = json.loads((tmp_path / "a" / "wandb.json").read_text())["run"]
    assert sorted((tmp_path / "a" / "wandb").glob(f"offline-run-*-{name}*/run-{name}.wandb"))
