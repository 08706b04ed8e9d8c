"""The files of an ensemble: written whole, open anywhere, and no altered or hostile byte is used."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy as copy_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import trainkit
from tests.ensemble.of_runs import base_of_run, members_of
from trainkit.checkpoint import tensors_sha256, to_safetensors
from trainkit.ensemble import artefact as artefacts
from trainkit.ensemble import rebuild
from trainkit.ensemble.artefact import MANIFEST, artefact_of, manifest_sha256, write_artefact
from trainkit.ensemble.inference import evaluate_ensemble
from trainkit.ensemble.members import Source, folded
from trainkit.ensemble.opened import load_ensemble, unlike
from trainkit.ensemble.together import reproducibly
from trainkit.ensemble.verify import read_artefact
from trainkit.ensembler import Member
from trainkit.errors import CheckpointError, PluginError, UsageError
from trainkit.instantiate import Builder
from trainkit.manager import Plugins
from trainkit.protocols import silent
from trainkit.recipe import load_recipe

RunOf = Callable[[str], Path]


def write(folder: Path, members: list[Member], base: Any, run: Path, temperature: float = 1.5) -> Any:
    """Write an ensemble of the mean of these members, and give its ensembler."""
    recipe = load_recipe(run / "recipe.toml", ["ensemble.use=seeds", "ensemble.combine=probability"], base.plugins)
    ensembler = Builder(recipe, base.plugins, silent).make("ensemble")
    for member in members:
        ensembler.add(member)
    from trainkit.ensemble.held_out import validation_of

    ensembler.fit(validation_of(members, base))
    stored = artefact_of(
        recipe.tables["ensemble"],
        ensembler.members(),
        {**ensembler.state(), "note": [1, 2.5, "x", torch.arange(3), {"deep": torch.ones(2)}]},
        temperature,
        recipe.tables,
        base.spec,
    )
    write_artefact(folder, stored)
    return ensembler


@pytest.fixture(scope="module")
def home(run_of: RunOf, plugins: Plugins, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble of runs of two different models; nobody changes it."""
    folder = tmp_path_factory.mktemp("ensembles") / "home"
    base = base_of_run(run_of("a"), plugins)
    members = members_of([Source(name, (run_of(name),)) for name in ("a", "wide", "raw-inputs")], base)
    write(folder, members, base, run_of("a"))
    return folder


@pytest.fixture
def copy(home: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(home, tmp_path / "copy"))


def change(folder: Path, act: Callable[[dict[str, Any]], object], rehash: bool = True) -> None:
    """Change the manifest, as somebody who knows the format would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    act(manifest)
    if rehash:
        manifest["sha256"] = manifest_sha256(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def replace(folder: Path, name: str, data: bytes) -> None:
    """Put other contents into a file, and let the manifest say so."""
    (folder / name).write_bytes(data)
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change(folder, lambda manifest: manifest["files"].update({name: entry}))


def refused(folder: Path, plugins: Plugins) -> str:
    with pytest.raises(CheckpointError) as found:
        load_ensemble(folder, plugins)
    assert found.value.exit_code == 5
    assert len(str(found.value)) < 1500
    return str(found.value)


def weights_of(folder: Path) -> Path:
    return sorted((folder / "weights").iterdir())[0]


# ------------------------------------------------------------ written and opened


def test_an_ensemble_gives_what_it_gave_when_it_was_written(run_of: RunOf, plugins: Plugins, tmp_path: Path):
    base = base_of_run(run_of("a"), plugins)
    members = members_of([Source(name, (run_of(name),)) for name in ("a", "wide", "averaged")], base)
    ensembler = write(tmp_path / "it", members, base, run_of("a"))
    inputs = next(iter(base.batches("test"))).inputs
    opened = load_ensemble(tmp_path / "it", plugins)
    with reproducibly():
        assert torch.equal(opened(inputs), ensembler.predict(inputs) / 1.5)
        assert torch.equal(opened.members(inputs), torch.stack([member.module(inputs) for member in members]))
    assert opened.temperature == 1.5
    assert [member.name for member in opened.made_of] == ["a", "wide", "averaged"]
    assert [member.cost for member in opened.made_of] == [
        dataclasses.replace(member.cost, seconds=0.0) for member in members
    ]
    assert [member.ancestors for member in opened.made_of] == [member.ancestors for member in members]
    assert [member.figures for member in opened.made_of] == [dict(member.figures) for member in members]
    written = [{key: value for key, value in member.recipe["model"].items() if value is not None} for member in members]
    assert [member.recipe["model"] for member in opened.made_of] == written  # TOML has no null
    assert opened.spec == base.spec
    assert not opened.training
    assert not any(parameter.requires_grad for parameter in opened.parameters())


def test_the_time_that_training_took_makes_no_other_ensemble(run_of: RunOf, plugins: Plugins, tmp_path: Path):
    base = base_of_run(run_of("a"), plugins)
    (one,) = members_of([Source("a", (run_of("a"),))], base)
    cost = one.cost
    written = []
    for name, again in {
        "it": cost,
        "slower": dataclasses.replace(cost, seconds=cost.seconds + 7),
        "longer": dataclasses.replace(cost, updates=cost.updates + 1),
    }.items():
        write(tmp_path / name, [dataclasses.replace(one, cost=again)], base, run_of("a"))
        written.append(read_artefact(tmp_path / name).sha256)
    assert written[0] == written[1] != written[2]


def test_an_ensemble_that_still_has_seconds_is_opened(copy: Path, plugins: Plugins):
    change(copy, lambda manifest: manifest["members"][0]["cost"].update(seconds=2.5))
    assert load_ensemble(copy, plugins).made_of[0].cost.seconds == 2.5


def test_state_comes_back_with_its_types(home: Path):
    state = read_artefact(home).state["note"]
    assert state[:3] == [1, 2.5, "x"]
    assert torch.equal(state[3], torch.arange(3))
    assert torch.equal(state[4]["deep"], torch.ones(2))


@pytest.mark.parametrize("names", [("fold-0", "fold-1", "fold-2"), ("number-fold-0", "number-fold-1", "number-fold-2")])
def test_members_on_folds_are_stored_with_the_units_that_they_know(
    names: tuple[str, ...], run_of: RunOf, plugins: Plugins, tmp_path: Path
):
    base = base_of_run(run_of(names[0].partition("-fold")[0].replace("fold-0", "a")), plugins)
    runs = members_of([Source(name, (run_of(name),)) for name in names], base)
    for number, members in enumerate((runs, [folded("trial 0", runs, base)])):
        write(tmp_path / f"{number}", members, base, run_of(names[0]), 1.0)
        opened = load_ensemble(tmp_path / f"{number}", plugins)
        inputs = next(iter(base.batches("test"))).inputs
        with reproducibly():
            assert torch.equal(opened.members(inputs), torch.stack([member.module(inputs) for member in members]))


def test_weights_that_members_share_are_stored_once(run_of: RunOf, plugins: Plugins, tmp_path: Path):
    base = base_of_run(run_of("a"), plugins)
    members = [*members_of([Source("a", (run_of("a"),)), Source("b", (run_of("b"),))], base)]
    again = members_of([Source("again", (run_of("a"),))], base)
    write(tmp_path / "it", [*members, *again], base, run_of("a"))
    assert len(list((tmp_path / "it" / "weights").iterdir())) == 2
    assert len(load_ensemble(tmp_path / "it", plugins).made_of) == 3


def test_the_same_ensemble_is_the_same_bytes(run_of: RunOf, plugins: Plugins, tmp_path: Path):
    base = base_of_run(run_of("a"), plugins)
    contents = []
    for number in range(2):
        write(tmp_path / f"{number}", members_of([Source("a", (run_of("a"),))], base), base, run_of("a"))
        files = sorted(path for path in (tmp_path / f"{number}").rglob("*") if path.is_file())
        contents.append({str(path.relative_to(tmp_path / f"{number}")): path.read_bytes() for path in files})
    assert contents[0] == contents[1]


def test_it_opens_in_another_process_without_runs_and_data(home: Path, tmp_path: Path):
    place = Path(shutil.copytree(home, tmp_path / "elsewhere"))
    code = (
        "import torch, trainkit\n"
        "from trainkit.ensemble.together import reproducibly\n"
        f"it = trainkit.load_ensemble({str(place)!r})\n"
        "torch.manual_seed(0)\n"
        "with reproducibly(): print(it(torch.randn(4, 13)).tolist())\n"
    )
    (tmp_path / "empty").mkdir()
    environment = {**os.environ, "TRAINKIT_DATA": str(tmp_path / "empty"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "empty",
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    torch.manual_seed(0)
    with reproducibly():
        assert json.loads(done.stdout) == trainkit.load_ensemble(home)(torch.randn(4, 13)).tolist()


def test_opening_draws_no_random_number(home: Path, plugins: Plugins):
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    load_ensemble(home, plugins)
    assert torch.equal(torch.rand(3), wanted)


def test_what_is_cut_short_is_no_ensemble(home: Path, run_of: RunOf, plugins: Plugins, tmp_path: Path, monkeypatch):
    real = artefacts.write_atomically

    def until_the_manifest(path: Path, content: Any) -> None:
        if path.name == MANIFEST:
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr(artefacts, "write_atomically", until_the_manifest)
    base = base_of_run(run_of("a"), plugins)
    members = members_of([Source("a", (run_of("a"),))], base)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "it", members, base, run_of("a"))
    with pytest.raises(UsageError, match="no finished ensemble"):
        load_ensemble(tmp_path / "it", plugins)
    monkeypatch.undo()
    write(tmp_path / "it", members, base, run_of("a"))
    assert len(load_ensemble(tmp_path / "it", plugins).made_of) == 1


def test_a_member_that_its_recipe_does_not_build_is_found_before_it_is_written(run_of: RunOf, plugins: Plugins):
    base = base_of_run(run_of("a"), plugins)
    members = members_of([Source(name, (run_of(name),)) for name in ("a", "b")], base)

    def why(*members: Member) -> str:
        made = artefact_of({"use": "seeds"}, members, {}, 1.0, base.recipe.tables, base.spec)
        return unlike(made, members, plugins, Path("it"), base.samples(4))

    assert why(*members) == ""
    assert why(*members, folded("both", members, base)) == ""
    other = dataclasses.replace(members[1], module=torch.nn.Sequential(members[1].module, torch.nn.Linear(3, 3)).eval())
    assert "gave the member b, which cannot be built again" in why(members[0], other)
    changed = dataclasses.replace(members[1], module=copy_module(members[1].module))
    changed.module[1].register_forward_hook(lambda module, given, outputs: outputs * 2)
    assert "gave the member b, whose module does something else" in why(members[0], changed)


# ------------------------------------------------------------ what it gives


def entropy(probabilities: Tensor) -> Tensor:
    return -(probabilities * probabilities.log()).sum(-1)


def test_uncertainty_is_the_entropy_of_the_mean_and_what_members_disagree_about(home: Path, plugins: Plugins):
    opened, inputs = load_ensemble(home, plugins), torch.randn(20, 13)
    each = opened.members(inputs).double().softmax(-1)
    found = opened.uncertainty(inputs)
    torch.testing.assert_close(found["total"], entropy(each.mean(0)))
    torch.testing.assert_close(found["expected"], entropy(each).mean(0))
    torch.testing.assert_close(found["difference"], entropy(each.mean(0)) - entropy(each).mean(0))
    assert float(found["difference"].min()) >= 0


def test_uncertainty_of_two_classes_and_of_numbers(run_of: RunOf, plugins: Plugins, tmp_path: Path):
    base = base_of_run(run_of("two-classes"), plugins)
    write(
        tmp_path / "two",
        members_of([Source(name, (run_of(name),)) for name in ("two-classes", "two-classes-b")], base),
        base,
        run_of("two-classes"),
    )
    opened, inputs = load_ensemble(tmp_path / "two", plugins), torch.randn(5, 30)
    positive = opened.members(inputs).double().sigmoid()
    each = torch.cat([1 - positive, positive], -1)
    torch.testing.assert_close(opened.uncertainty(inputs)["total"], entropy(each.mean(0)))
    base = base_of_run(run_of("number"), plugins)
    names = ("number", "number-fold-0")
    members = [members_of([Source(name, (run_of(name),))], base)[0] for name in names]
    write(tmp_path / "number", members[:1], base, run_of("number"), 1.0)
    opened, inputs = load_ensemble(tmp_path / "number", plugins), torch.randn(5, 10)
    assert torch.equal(opened.uncertainty(inputs)["total"], torch.zeros(5, 1))


def test_it_moves_between_devices_and_types_like_any_module(home: Path, plugins: Plugins):
    opened, inputs = load_ensemble(home, plugins), torch.randn(4, 13)
    given = opened(inputs)
    wide = opened.double()(inputs.double())
    torch.testing.assert_close(wide.float(), given, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------ altered


def test_a_single_altered_bit_of_any_file_is_found_and_named(copy: Path, plugins: Plugins):
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    assert len(files) == 1 + 1 + 3 + 3
    for path in files:
        data = path.read_bytes()
        for place in {0, len(data) // 2, len(data) - 2}:
            spoilt = bytearray(data)
            spoilt[place] ^= 4
            path.write_bytes(spoilt)
            assert str(path) in refused(copy, plugins)
        path.write_bytes(data)
    load_ensemble(copy, plugins)


def test_a_file_that_is_missing_or_shorter_is_named(copy: Path, plugins: Plugins):
    for path in sorted(path for path in copy.rglob("*") if path.is_file() and path.name != MANIFEST):
        data = path.read_bytes()
        path.write_bytes(data[:-1])
        assert str(path) in refused(copy, plugins)
        path.unlink()
        assert "not a whole ensemble" in refused(copy, plugins)
        path.write_bytes(data)


def test_a_number_that_was_altered_in_the_manifest_is_found(copy: Path, plugins: Plugins):
    change(copy, lambda manifest: manifest.update(temperature=2.0), rehash=False)
    assert "damaged or altered" in refused(copy, plugins)


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda m: m["files"].update({"../../outside.toml": m["files"]["state.safetensors"]}), "none of an ensemble's"),
        (lambda m: m["files"].update({"/etc/passwd": m["files"]["state.safetensors"]}), "none of an ensemble's"),
        (lambda m: m["files"]["state.safetensors"].update(bytes=2**60), "may have"),
        (lambda m: m["files"]["state.safetensors"].update(bytes=-1), "does not say how many bytes"),
        (lambda m: m["files"]["state.safetensors"].update(bytes=True), "does not say how many bytes"),
        (lambda m: m["files"]["state.safetensors"].update(sha256="0"), "64 hexadecimal digits"),
        (lambda m: m["files"].pop("state.safetensors"), "does not say the SHA-256"),
        (lambda m: m.update(files=[]), "must name its files"),
        (lambda m: m.update(members=[]), "1 to 10,000 members"),
        (lambda m: m.update(members=[0] * 10_001), "1 to 10,000 members"),
        (lambda m: m["members"][0].update(weights="../x"), "64 hexadecimal digits"),
        (lambda m: m["members"][0].update(weights="0" * 64), "does not say the SHA-256"),
        (lambda m: m["members"][0].update(pieces=[]), "pieces and a cost"),
        (lambda m: m["members"][0].update(pieces=m["members"][0]["pieces"] * 2), "whether it is a mean"),
        (lambda m: m["members"][0].update(name=7), "not text"),
        (lambda m: m["members"][0].update(step=-1), "not a whole number"),
        (lambda m: m["members"][0].update(figures={"val.loss": "low"}), "must be numbers"),
        (lambda m: m["members"][0].update(ancestors=[3]), "must be text"),
        (lambda m: m["members"][0]["pieces"][0].update(recipe="x"), "64 hexadecimal digits"),
        (lambda m: m["members"][0].update(weights=m["members"][1]["weights"]), "do not fit its recipe"),
        (lambda m: m.update(format=2), "use a newer one"),
        (lambda m: m.update(format="1"), "use a newer one"),
        (lambda m: m.update(temperature=0), "must be a number above 0"),
        (lambda m: m.update(temperature=-1.5), "must be a number above 0"),
        (lambda m: m.update(temperature=10**400), "must be a number above 0"),
        (lambda m: m.update(temperature="1"), "must be a number above 0"),
        (lambda m: m.update(temperature=True), "must be a number above 0"),
        (lambda m: m.update(seed=None), "settings and a seed"),
        (lambda m: m.update(ensembler="seeds"), "settings and a seed"),
        (lambda m: m["ensembler"].update(nonsense=1), "cannot be used here"),
        (lambda m: m["ensembler"].update(members=-3), "cannot be used here"),
        (lambda m: m["spec"].update(input_shape=[2**40]), "input_shape"),
        (lambda m: m["spec"].update(input_shape=[2**20, 2**20]), "input_shape"),
        (lambda m: m["spec"].update(input_shape=[]), "input_shape"),
        (lambda m: m["spec"].update(outputs=0), "0 outputs"),
        (lambda m: m["spec"].update(task="magic"), "the task is"),
        (lambda m: m["spec"].update(input_mean=[0.0, 1.0]), "do not fit the data"),
        (lambda m: m["spec"].update(input_std=[0.0] * 13), "do not fit the data"),
        (lambda m: m["members"][0]["pieces"][0]["spec"].update(input_shape=[2**31]), ""),
        (lambda m: m["state"].update(more={"__tensor__": "state/none"}), "does not have"),
        (lambda m: m["state"].update(more={"__float__": "none"}), ""),
        (lambda m: m.update(state=[]), "must be a table"),
    ],
)
def test_a_hostile_manifest_with_the_right_sum_is_refused(act: Any, says: str, copy: Path, plugins: Plugins):
    change(copy, act)
    said = refused(copy, plugins)
    assert says in said
    assert str(copy) in said


def test_numbers_that_are_none_are_refused(copy: Path, plugins: Plugins):
    text = (copy / MANIFEST).read_text()
    for number in ("NaN", "Infinity", "-Infinity"):
        (copy / MANIFEST).write_text(text.replace('"temperature": 1.5', f'"temperature": {number}'))
        assert "is no number" in refused(copy, plugins)
    for broken in ("", "[]", "[" * 100_000, "{", '{"format": 1, "format": 1}', text[:-30]):
        (copy / MANIFEST).write_text(broken)
        refused(copy, plugins)


def test_weights_that_are_no_numbers_or_of_another_form_are_refused(copy: Path, plugins: Plugins):
    path = weights_of(copy)
    tensors = {
        name: torch.full_like(value, torch.nan) for name, value in read_artefact(copy).weights[path.stem].items()
    }
    digest = tensors_sha256(tensors)
    replace(copy, f"weights/{digest}.safetensors", to_safetensors(tensors))

    def point(manifest: dict[str, Any]) -> None:
        next(member for member in manifest["members"] if member["weights"] == path.stem)["weights"] = digest

    change(copy, point)
    assert "is not finite" in refused(copy, plugins)


def test_weights_under_the_name_of_others_are_refused(copy: Path, plugins: Plugins):
    first, second = sorted((copy / "weights").iterdir())[:2]
    replace(copy, f"weights/{first.name}", second.read_bytes())
    assert "is not its name" in refused(copy, plugins)


@pytest.mark.parametrize(
    "text",
    [
        'extends = "/etc/passwd"\n[model]\nuse = "mlp"\n',
        '[model]\nuse = "mlp"\n[search.space]\n',
        '[model]\nuse = "os.system"\n',
        '[model]\nuse = "mlp"\nwidths = [1000000000000]\n',
        '[model]\nuse = "mlp"\nwidths = "wide"\n',
        "[model",
        'seed = 1\n[data]\nuse = "wine"\n',
        "\x00",
    ],
)
def test_a_hostile_recipe_is_refused(text: str, copy: Path, plugins: Plugins):
    data = text.encode()
    digest = hashlib.sha256(data).hexdigest()
    replace(copy, f"recipes/{digest}.toml", data)
    change(copy, lambda manifest: manifest["members"][0]["pieces"][0].update(recipe=digest))
    with pytest.raises((CheckpointError, PluginError)) as found:
        load_ensemble(copy, plugins)
    assert found.value.exit_code in (3, 5)


def test_a_recipe_of_many_large_layers_is_refused_before_memory_is_gone(
    copy: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rebuild, "SPARE", 1 << 20)
    text = f'[model]\nuse = "mlp"\nwidths = {[900] * 1500}\n'.encode()
    digest = hashlib.sha256(text).hexdigest()
    replace(copy, f"recipes/{digest}.toml", text)
    change(copy, lambda manifest: manifest["members"][0]["pieces"][0].update(recipe=digest))
    assert "builds tensors of more than" in refused(copy, plugins)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[run]\nduration = "1ep"\n', r"no \[data\] table"),
        ('[data]\nuse = "wine"\n[loss]\nuse = "cross_entropy"\n', r"no \[run\] table"),
    ],
)
def test_a_recipe_without_the_data_cannot_be_measured_by(text: str, says: str, copy: Path, plugins: Plugins):
    data = f"seed = 1\n{text}".encode()
    digest = hashlib.sha256(data).hexdigest()
    replace(copy, f"recipes/{digest}.toml", data)
    change(copy, lambda manifest: manifest.update(recipe=digest))
    with pytest.raises(CheckpointError, match=says):
        evaluate_ensemble(copy, "test", plugins)


def test_links_and_what_is_no_file_are_refused(copy: Path, tmp_path: Path, plugins: Plugins):
    path = weights_of(copy)
    outside = tmp_path / "outside.safetensors"
    shutil.move(path, outside)
    path.symlink_to(outside)
    assert "link out of the ensemble" in refused(copy, plugins)
    path.unlink()
    os.mkfifo(path)
    assert "a pipe" in refused(copy, plugins)
    path.unlink()
    shutil.move(outside, path)
    shutil.move(copy / "weights", tmp_path / "weights")
    (copy / "weights").symlink_to(tmp_path / "weights")
    assert "link" in refused(copy, plugins)
    (copy / "weights").unlink()
    (copy / "weights").write_text("")
    assert "not a folder" in refused(copy, plugins)


def test_a_model_whose_plugin_is_not_here_is_said_to_be_missing(home: Path, plugins: Plugins):
    without = Plugins(without=["models"])
    without.load()
    with pytest.raises(PluginError, match="not installed here"):
        load_ensemble(home, without)


def test_what_trained_the_members_need_not_be_here(copy: Path, plugins: Plugins):
    change(copy, lambda manifest: manifest["ensembler"].update(executor={"use": "somebodys_cluster"}))
    assert load_ensemble(copy, plugins).settings["executor"] == {"use": "somebodys_cluster"}


def test_a_recipe_that_does_not_fit_the_data_is_refused_as_one_of_the_ensemble(copy: Path, plugins: Plugins):
    text = b'[model]\nuse = "convnet"\n'
    digest = hashlib.sha256(text).hexdigest()
    replace(copy, f"recipes/{digest}.toml", text)
    change(copy, lambda manifest: manifest["members"][0]["pieces"][0].update(recipe=digest))
    assert "cannot be used here" in refused(copy, plugins)


def test_a_folder_without_an_ensemble_is_said_to_have_none(tmp_path: Path, plugins: Plugins):
    with pytest.raises(UsageError, match="no finished ensemble"):
        load_ensemble(tmp_path, plugins)
