"""[model] weights: what matches by name is taken bit for bit, the head begins anew, and what does not fit is listed."""

from __future__ import annotations

import copy
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainkit import CheckpointError, RecipeError, hookimpl
from trainkit.finished import reopen
from trainkit.launch import launch
from trainkit.pretrained import load_pretrained
from trainkit.recipe import load_recipe
from trainkit.weight_files import NoWeights, read_weights

FOUR = "data.classes=4"  # the base has 3


class First:
    """Keeps the weights before the first update, and how many there were."""

    def __init__(self) -> None:
        self.weights: dict[str, torch.Tensor] = {}

    @hookimpl
    def trainkit_run_start(self, run) -> None:
        self.weights = copy.deepcopy(run.model.state_dict())


@pytest.fixture
def first(train):
    """The weights that a run begins with."""

    def first(*changes, **options):
        kept = First()
        finished = train(*changes, listeners=[kept], **options)
        return kept.weights, finished

    return first


@pytest.fixture
def base(train):
    return train("run.duration=1ep")


def problem_of(train, *changes):
    with pytest.raises(RecipeError) as caught:
        train(*changes)
    (problem,) = caught.value.problems
    return problem


def test_a_run_begins_with_the_body_of_another_and_a_head_of_its_own(first, base):
    said = []
    fresh, _ = first(FOUR)
    taken, finished = first(FOUR, f'model.weights="{base.folder}"', 'model.head=["head.*"]', say=said.append)
    for name, weights in taken.items():
        assert torch.equal(weights, fresh[name] if name.startswith("head") else base.weights[name]), name
    (text,) = [text for text in said if "begins with" in text]
    assert "step 8: 2 of its 4 tensors matched by name (56 numbers)" in text
    assert "new: head.weight 4x8, head.bias 4; left there: head.bias 3, head.weight 3x8" in text
    about = json.loads((finished.folder / "pretrained.json").read_text())
    assert about["taken"] == {"body.0.weight": "body.0.weight", "body.0.bias": "body.0.bias"}
    assert about["new"] == {"head.weight": [4, 8], "head.bias": [4]}
    assert about["sha256"] == base.report.weights_sha256
    assert not (base.folder / "pretrained.json").exists()


def test_names_of_a_run_its_checkpoints_and_its_files_mean_the_same_weights(train):
    long = train()  # its best checkpoint is the last one here, the first one lies before
    checkpoints = sorted((long.folder / "checkpoints").iterdir())
    assert json.loads((long.folder / "best.json").read_text())["checkpoint"] == checkpoints[-1].name
    for name in ("/best", "/newest", f"/{checkpoints[-1].name}", f"/checkpoints/{checkpoints[-1].name}"):
        taken = read_weights(f"{long.folder}{name}").tensors
        assert taken.keys() == long.weights.keys()
        assert all(torch.equal(taken[key], long.weights[key]) for key in taken), name
    earlier = read_weights(f"{long.folder}/{checkpoints[0].name}").tensors
    assert not torch.equal(earlier["head.weight"], long.weights["head.weight"])
    (long.folder / "best.json").write_text(json.dumps({"checkpoint": checkpoints[0].name}))
    best = read_weights(str(long.folder)).tensors
    assert torch.equal(best["head.weight"], earlier["head.weight"])
    file = read_weights(f"{checkpoints[-1]}/tensors.safetensors").tensors
    assert torch.equal(file["head.weight"], long.weights["head.weight"])


def test_a_study_means_its_winner(base, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(base.folder, study / "trials" / "0003")
    (study / "study.jsonl").touch()
    (study / "recipe.toml").touch()
    with pytest.raises(NoWeights, match="a study without a winner"):
        read_weights(str(study))
    (study / "report.json").write_text(json.dumps({"best": {"trial": 3}}))
    assert torch.equal(read_weights(str(study)).tensors["head.weight"], base.weights["head.weight"])


def test_files_of_another_library_are_read_with_names_and_numbers_of_their_own(first, base, tmp_path):
    renamed = {f"encoder.{name}": tensor.bfloat16() for name, tensor in base.weights.items() if "head" not in name}
    renamed["projection.weight"] = torch.ones(2, 2)
    save_file(renamed, tmp_path / "model.safetensors")
    names = 'model.rename={"encoder." = ""}', 'model.head=["head.*", "projection.*"]'
    taken, finished = first(f'model.weights="{tmp_path}/model.safetensors"', *names)
    assert torch.equal(taken["body.0.weight"], base.weights["body.0.weight"].bfloat16().float())
    about = json.loads((finished.folder / "pretrained.json").read_text())
    assert about["taken"]["body.0.weight"] == "encoder.body.0.weight"
    assert about["converted"] == {"body.0.weight": "bfloat16", "body.0.bias": "bfloat16"}
    assert about["left"] == {"projection.weight": [2, 2]}
    folder = tmp_path / "parts"
    folder.mkdir()
    for number, name in enumerate(renamed, 1):
        save_file({name: renamed[name]}, folder / f"model-{number:05}-of-00003.safetensors")
    again, _ = first(f'model.weights="{folder}"', *names)
    assert torch.equal(again["body.0.weight"], taken["body.0.weight"])


def test_the_weights_are_those_that_the_run_measures(first, train, base):
    more = '[[callback]]\nuse = "ema"\ndecay = 0.9\n'
    averaged = train(more=more)
    average, raw = averaged.run, averaged.weights
    state = load_file(averaged.folder / "checkpoints" / f"step-{16:012}" / "tensors.safetensors")
    held = {name: tensor for name, tensor in state.items() if name.startswith("plugin/") and "head.weight" in name}
    (expected,) = held.values()
    taken, _ = first(f'model.weights="{averaged.folder}"')
    assert average.step == 16
    assert torch.equal(taken["head.weight"], expected)
    assert not torch.equal(taken["head.weight"], raw["head.weight"])
    # What it takes to find that out leaves no trace in the run that begins.
    file = averaged.folder.parent / "average.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in taken.items()}, file)
    _, one = first(f'model.weights="{averaged.folder}"')
    _, other = first(f'model.weights="{file}"')
    assert one.report.weights_sha256 == other.report.weights_sha256


def test_tied_weights_and_counters_need_not_be_there_twice(tmp_path):
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(5, 3)
            self.norm = torch.nn.BatchNorm1d(3)
            self.head = torch.nn.Linear(3, 5, bias=False)
            self.head.weight = self.table.weight

    def measure(folder, found):
        raise AssertionError

    model, other = Tied(), Tied()
    state = {
        k: v.clone() for k, v in other.state_dict().items() if k not in ("head.weight", "norm.num_batches_tracked")
    }
    save_file(state, tmp_path / "w.safetensors")
    table = {"weights": f"{tmp_path}/w.safetensors"}
    found = load_pretrained({"model": table}, model, measure)
    assert found is not None
    assert torch.equal(model.head.weight, other.table.weight)
    assert found.about["new"] == {}
    with pytest.raises(RecipeError, match=r"head\.weight would not begin anew: it is one tensor with table\.weight"):
        load_pretrained({"model": {**table, "head": ["head.*"]}}, Tied(), measure)
    anew = load_pretrained({"model": {**table, "head": ["head.*", "table.*"]}}, Tied(), measure)
    assert anew is not None
    assert set(anew.about["new"]) == {"head.weight", "table.weight"}


def test_what_does_not_fit_is_listed_whole_with_its_shapes(train, base):
    problem = problem_of(train, FOUR, f'model.weights="{base.folder}"', "model.widths=[8, 5]")
    assert problem.place.origin == "command line"
    assert problem.message.endswith("does not fit the model: 2 of another shape, 2 missing")
    lines = problem.cure.splitlines()
    assert "head.weight: 3x8 there, 4x5 in the model" in lines
    assert "head.bias: 3 there, 4 in the model" in lines
    assert "body.2.weight: 5x8 in the model, not there" in lines
    assert lines[-1].startswith('[model] head = ["head.*", "body.2.*"] begins these anew')
    problem = problem_of(train, FOUR, f'model.weights="{base.folder}"', 'model.head=["head.*"]', "model.widths=[8, 8]")
    assert problem.cure.splitlines()[-1].startswith('[model] head = ["head.*", "body.2.*"] begins these anew')
    problem = problem_of(train, f'model.weights="{base.folder}"', "model.widths=[]")
    assert "body.0.weight: 8x6 there, not in the model" in problem.cure


def test_another_beginning_of_all_names_is_seen(train, base, tmp_path):
    save_file({f"module.{name}": tensor for name, tensor in base.weights.items()}, tmp_path / "w.safetensors")
    problem = problem_of(train, f'model.weights="{tmp_path}/w.safetensors"')
    assert '[model] rename = { "module." = "" } takes that beginning off' in problem.cure


@pytest.mark.parametrize(
    ("changes", "message", "cure"),
    [
        (['model.weights="nowhere"'], "[model] weights: there is no nowhere", "relative paths start at the working"),
        (['model.weights="{base}/step-3"'], "no checkpoint named 'step-3'", "it has best, newest, step-000000000008"),
        (['model.weights="{tmp}/old.pt"'], "may be a pickle", "trainkit import-weights {tmp}/old.pt"),
        (['model.weights="{tmp}/empty"'], "holds no run and no .safetensors file", "name a run folder"),
        (['model.weights="{tmp}/members"'], "holds an ensemble", "name the folder of one run"),
        (['model.weights="{base}"', 'model.head=["haed.*"]'], '"haed.*" matches no name', "head.weight"),
        (['model.weights="{base}"', 'model.rename={{"x." = ""}}'], "no name begins with 'x.'", "body.0.bias"),
        (['model.weights="{base}"', 'model.head=["*"]'], "nothing is taken", "head leaves nothing to take"),
        (['model.head=["head.*"]'], "[model] head is about weights, and there are none", "name the weights too"),
    ],
)
def test_what_is_wrong_is_one_problem(train, base, tmp_path, changes, message, cure):
    (tmp_path / "old.pt").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    members = tmp_path / "members"
    members.mkdir()
    for name in ("recipe.toml", "ensemble.json"):
        (members / name).touch()
    places = {"base": base.folder, "tmp": tmp_path}
    problem = problem_of(train, *[change.format(**places) for change in changes])
    assert message in problem.message
    assert cure.format(**places) in problem.cure


def test_a_recipe_reads_no_weights_outside_the_folders_it_may_read(load, base, tmp_path, monkeypatch, train, plugins):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    inside = tmp_path / "here" / "w.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in base.weights.items()}, inside)
    with pytest.raises(RecipeError, match="leads out of the folders that a recipe may read"):
        load(more='[model.rename]\n"a" = "b"\n', text="[model]\nweights = '/etc/passwd'\n")
    (tmp_path / "here" / "link").symlink_to("/etc")
    with pytest.raises(RecipeError, match="leads out of the folders"):
        load(text="[model]\nweights = 'link/w.safetensors'\n")
    (tmp_path / "here" / "folder").mkdir()
    (tmp_path / "here" / "folder" / "model.safetensors").symlink_to("/etc/hostname")
    with pytest.raises(RecipeError, match="is a link out of the folder, to"):
        train(text=TEXT.replace("WEIGHTS", "folder"))
    finished = train(text=TEXT.replace("WEIGHTS", "w.safetensors"))
    assert (finished.folder / "pretrained.json").is_file()
    # Who runs the recipe of a run folder anew reads its weights, and is held to the same folders.
    recipe = finished.folder / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("w.safetensors", "/etc"))
    with pytest.raises(RecipeError, match="leads out of the folders"):
        launch(load_recipe(recipe, [], plugins), plugins, folder=tmp_path / "again")


TEXT = """\
seed = 5
logger = []
[run]
duration = "1ep"
[data]
use = "synthetic"
samples = 192
features = [6]
batch_size = 16
[model]
use = "mlp"
widths = [8]
weights = "WEIGHTS"
[loss]
use = "cross_entropy"
[optimizer]
use = "sgd"
lr = 0.1
"""


def test_damaged_weights_end_with_the_code_of_checkpoints(train, base):
    file = base.folder / "checkpoints" / f"step-{8:012}" / "tensors.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged") as caught:
        train(f'model.weights="{base.folder}/best"')
    assert caught.value.exit_code == 5


def test_a_continued_run_needs_them_no_more_and_ends_the_same(load, plugins, base, tmp_path, train):
    settings = FOUR, f'model.weights="{base.folder}"', 'model.head=["head.*"]'
    whole = train(*settings)

    class StopAt:
        @hookimpl
        def trainkit_step_end(self, run) -> None:
            if run.step == 5:
                run.stop_reason, run.interrupted = "signal SIGTERM", True

    folder = tmp_path / "halves"
    assert launch(load(*settings), plugins, folder=folder, listeners=[StopAt()]).steps == 5
    first = (folder / "pretrained.json").read_bytes()
    shutil.rmtree(base.folder)
    report = launch(load(*settings), plugins, folder=folder, resume=True)
    assert report.weights_sha256 == whole.report.weights_sha256
    assert (folder / "pretrained.json").read_bytes() == first
    made = reopen(folder, plugins)
    assert made.first_sha256 == json.loads(first)["first_sha256"]


def test_nothing_is_left_of_a_run_whose_weights_do_not_fit(train, base, tmp_path):
    before = sorted(tmp_path.iterdir())
    problem_of(train, FOUR, f'model.weights="{base.folder}"')
    assert sorted(tmp_path.iterdir()) == before
