"""``compile = "auto"``: compiled in another process where that pays, and swapped in where it does what eager does."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.core.conftest import RECIPE
from trainkit import artefact, background, hookimpl
from trainkit.background import AutoStep
from trainkit.build import build
from trainkit.compile_cache import VARIABLE
from trainkit.compiler import Compiler
from trainkit.manager import Plugins
from trainkit.protocols import silent
from trainkit.recipe import fill_toml, load_recipe
from trainkit.run import StepResult

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
HERE = Path(__file__).parent
AUTO = ("run.compile=auto", "run.updates_per_call=2")


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    """The installed ones, and models that are hard to compile."""
    return Plugins([str(HERE / "trainkit_compile_parts.py")])


@pytest.fixture
def eagerly_decided(monkeypatch):
    """Decide after three updates, always for compiling, and wait for it in the first look."""
    monkeypatch.setattr(background, "WARM", 1)
    monkeypatch.setattr(background, "MEASURED", 1)
    monkeypatch.setattr(background, "LOOK_EVERY", 1)
    monkeypatch.setattr(background, "MARGIN", -1.0)
    result = Compiler.result

    def waited(self):
        while (found := result(self)) is None:
            time.sleep(0.05)
        return found

    monkeypatch.setattr(Compiler, "result", waited)


class Calls:
    """How many updates each call made, and the version of a weight after it."""

    def __init__(self) -> None:
        self.updates: list[int] = []
        self.versions: list[int] = []

    @hookimpl
    def trainkit_step_end(self, run, result):
        self.updates.append(result.updates)
        self.versions.append(run.model.head.weight._version)


@pytest.mark.compiler
@pytest.mark.slow
def test_what_another_process_compiled_takes_over_and_is_the_eager_run_up_to_rounding(train, capfd, eagerly_decided):
    """What takes part in the gradients, such as agc, gets ready in the other process too."""
    changes = [
        "model=knotted",
        "run.duration=3ep",
        "optimizer.use=adamw",
        "optimizer.lr=0.01",
        "schedule=cosine",
    ]
    more = '[[callback]]\nuse = "agc"\nclipping = 0.1\n[[callback]]\nuse = "clip_norm"\nmax_norm = 0.5\n'
    eager = train(*changes, more=more)
    calls = Calls()
    auto = train(*changes, *AUTO, more=more, listeners=[calls])
    said = capfd.readouterr().err
    assert said.count("it is compiled in the background") == 1
    assert said.count("compiled updates from update") == 1
    # The last of the eight updates of an epoch has a short batch.
    assert calls.updates.count(2) >= 6
    assert sum(calls.updates) == 24
    # Who keeps something made of weights knows by their version that they are others; fused eager updates say nothing.
    assert calls.versions[-1] > calls.versions[0]
    for name, weight in eager.weights.items():
        torch.testing.assert_close(auto.weights[name], weight, rtol=1e-4, atol=1e-5)
    assert [line["loss"] for line in auto.of("train")] == pytest.approx(
        [line["loss"] for line in eager.of("train")], rel=1e-4
    )


@pytest.mark.compiler
@pytest.mark.slow
def test_a_library_that_is_not_right_or_holds_no_longer_never_trains(
    train, tmp_path, capfd, eagerly_decided, monkeypatch
):
    """Of a run with other tensors, of another program, damaged on the disk, or of a number that a callback changes."""

    class Change:
        @hookimpl
        def trainkit_epoch_start(self, run):
            run.model.scale = 3.0 if run.epoch == 2 else 1.0

    made: list[Compiler] = []

    def once(order):
        if not made:
            made.append(Compiler(order))
            made[0].close, at_last[0] = at_last[0], made[0].close
        return made[0]

    def rename(found):
        for argument in found["arguments"]:
            argument[0] = argument[0].replace("state ", "state of ")

    def other(found):  # two weights of one shape change places with their states
        labels = [label for label, *_ in found["arguments"]]
        a, b = labels.index("parameter body.bias"), labels.index("state momentum_buffer of body.bias")
        found["arguments"][a][0], found["arguments"][b][0] = labels[b], labels[a]

    def cut(found):  # a copy: the library itself may be in use
        path = tmp_path / "cut.so"
        path.write_bytes(Path(found["library"]).read_bytes()[:1000])
        found["library"] = str(path)

    at_last = [lambda: None]
    monkeypatch.setattr(background, "Compiler", once)
    result = Compiler.result
    changes = "model=scaled", "optimizer.momentum=0.9"
    longer, eager = train(*changes, "run.duration=3ep", listeners=[Change()]), train(*changes)
    harms = {rename: "the run has no ", other: "changes parameter", cut: "is not the one that was written"}
    try:
        auto = train(*changes, *AUTO, "run.duration=3ep", listeners=[Change()])
        told = capfd.readouterr().err
        assert "compiled updates from update" in told
        assert told.count("the model's Python values have changed") == 1
        for name, weight in longer.weights.items():
            torch.testing.assert_close(auto.weights[name], weight, rtol=1e-4, atol=1e-5)
        for harm, said in harms.items():

            def harmed(self, harm=harm):
                found = result(self)
                harm(found)
                return found

            monkeypatch.setattr(Compiler, "result", harmed)
            auto = train(*changes, *AUTO)
            told = capfd.readouterr().err
            assert told.count("the run goes on eagerly with the same result") == 1
            assert said in told
            assert auto.report.weights_sha256 == eager.report.weights_sha256
    finally:
        at_last[0]()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "why"), [("branching", "Could not guard"), ("counting", "each pass changes what is no tensor")]
)
def test_what_the_other_process_cannot_compile_is_said_once(train, capfd, eagerly_decided, model, why):
    eager = train(f"model={model}")
    auto = train(f"model={model}", *AUTO, "run.updates_per_call=1")
    said = capfd.readouterr().err
    assert said.count("the run goes on eagerly with the same result") == 1
    assert why in said
    assert auto.report.weights_sha256 == eager.report.weights_sha256


@pytest.mark.parametrize(
    ("changes", "more", "why"),
    [
        (["model=unwilling"], "", "unwilling says that it cannot be compiled"),
        (["run.nonfinite=skip"], "", "decide on single updates"),
        ([], '[[optimizer.wrap]]\nuse = "sam"\n', "the optimizer's update cannot be traced"),
        (["optimizer={use='lbfgs'}"], "", "the optimizer's update cannot be traced"),
    ],
)
def test_where_nothing_can_be_compiled_the_run_is_the_eager_one(train, capfd, changes, more, why):
    eager = train(*changes, more=more)
    auto = train(*changes, "run.compile=auto", more=more)
    said = capfd.readouterr().err
    assert said.count('compile = "auto" is not used') == 1
    assert why in said
    assert auto.report.weights_sha256 == eager.report.weights_sha256


@pytest.mark.compiler
def test_the_other_process_leaves_out_the_plugins_that_this_one_does(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(RECIPE)
    plugins = Plugins(without=["trainkit_kozistr"])
    recipe = load_recipe(path, ["run.compile=auto"], plugins)
    program = build(recipe, plugins, tmp_path / "run", silent).program
    assert program._order["without"] == ("trainkit_kozistr",)


@pytest.mark.parametrize(("left", "pays"), [(1_000, False), (100_000_000, True)])
def test_compiling_begins_only_where_the_updates_left_pay_for_it(monkeypatch, tmp_path, left, pays):
    monkeypatch.setenv("TRAINKIT_CACHE", str(tmp_path))
    started, said = [], []
    monkeypatch.setattr(background, "Compiler", lambda order: started.append(order))
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1))
    run = SimpleNamespace(
        model=model,
        clock=SimpleNamespace(accumulate=1),
        total_updates=left,
        position=0,
        say=said.append,
        hook=SimpleNamespace(trainkit_step_end=SimpleNamespace(get_hookimpls=list)),
    )

    def eager(updates):
        time.sleep(1e-4)
        model(torch.zeros(1, 2))
        return StepResult(torch.zeros(()), 1.0)

    program = AutoStep(run, eager, False, 4, {"text": ""}, "key")
    for _ in range(background.WARM + background.MEASURED + 5):
        program([[]])
    assert len(said) == 1
    assert f"{left} updates left" in said[0]
    assert ("it is compiled in the background" in said[0]) == pays
    assert len(started) == pays


def test_a_run_that_stays_eager_never_imports_the_compiler(tmp_path):
    code = """
import sys
from trainkit.cli import main
code = main(["run", *sys.argv[1:], "run.compile=auto", "run.duration=80ba"])
assert code == 0, code
assert "torch._dynamo" not in sys.modules
"""
    (tmp_path / "r.toml").write_text(RECIPE)
    command = [sys.executable, "-P", "-c", code, str(tmp_path / "r.toml"), "--run-dir", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "the run stays eager" in done.stderr


def test_a_short_run_never_decides(train, capfd):
    auto = train("run.compile=auto")
    assert "compile" not in capfd.readouterr().err
    assert auto.report.weights_sha256 == train().report.weights_sha256


def test_whatever_a_program_does_not_look_at_makes_the_fingerprint():
    def clipping(limit):
        return SimpleNamespace(limit=limit)

    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.1), torch.nn.BatchNorm1d(2))
    loss, callback = torch.nn.Sequential(torch.nn.CrossEntropyLoss()), clipping(1.0)
    changes = [
        lambda: None,
        lambda: setattr(model[1], "p", 0.2),
        lambda: setattr(model[1], "_scale", 0.2),
        lambda: model[2].eval(),
        lambda: model[0].register_forward_hook(lambda *_: None),
        lambda: model[0].register_forward_hook(lambda *_: None),
        lambda: model[0].weight.register_hook(lambda gradient: 2 * gradient),
        lambda: model[0].weight.requires_grad_(False),
        lambda: setattr(loss[0], "label_smoothing", 0.1),
        lambda: setattr(callback, "limit", 2.0),
    ]
    seen = []
    for change in changes:
        change()
        seen.append(artefact.fingerprint(model, loss, callback))
    assert len(set(seen)) == len(seen)
    assert artefact.fingerprint(model, loss, clipping(2.0)) == seen[-1]


@pytest.mark.slow
def test_the_process_that_compiles_leaves_nothing_when_the_one_that_trains_is_killed(tmp_path, monkeypatch, load):
    code = """
import json, sys, time
from trainkit.compiler import Compiler
compiler = Compiler(json.loads(sys.argv[1]))
print(compiler._process.pid, flush=True)
time.sleep(100)
"""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setenv("TRAINKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "temporary").mkdir()
    order = {"text": fill_toml(load()), "modules": [], "without": [], "key": "key", "updates": 2, "keep_outputs": True}
    trains = subprocess.Popen([sys.executable, "-P", "-c", code, json.dumps(order)], stdout=subprocess.PIPE, text=True)
    assert trains.stdout is not None
    child = int(trains.stdout.readline())
    begun = time.monotonic()
    while not list(tmp_path.glob("cache/compiled/.process-*")) and time.monotonic() - begun < 60:
        time.sleep(0.05)  # until it compiles
    trains.kill()
    trains.wait()
    trains.stdout.close()

    def left() -> list[Path]:
        found = [*(tmp_path / "temporary").glob("trainkit-*"), *tmp_path.glob("cache/compiled/.process-*")]
        with contextlib.suppress(OSError):  # where nobody reaps it, it stays in the table of processes
            status = Path(f"/proc/{child}/stat")
            found += [status] if status.read_text().rpartition(")")[2].split()[0] != "Z" else []
        return found

    begun = time.monotonic()
    while left() and time.monotonic() - begun < 30:
        time.sleep(0.05)
    assert left() == []


def test_an_artefact_is_read_as_it_was_written(tmp_path):
    whole = artefact.Artefact("a.so", "00", "m", [("moving 0", [2], [1], "torch.float32")], [0, 1.0], "f", 1.5)
    whole.write(tmp_path)
    found = artefact.Artefact(**json.loads((tmp_path / artefact.RESULT).read_text()))
    assert dataclasses.replace(found, arguments=[tuple(part) for part in found.arguments]) == whole
