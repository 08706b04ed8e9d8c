"""One student in place of an ensemble: its loss, what it is given, and the whole way from one recipe."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from trainkit import Ensemble, Report, Run, hookimpl, load_ensemble, score
from trainkit.ensemble.base import Base
from trainkit.errors import RecipeError, UsageError
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe, trial_recipe
from trainkit_ensemblers.lessons import Lessons
from trainkit_ensemblers.methods import seeds
from trainkit_ensemblers.students import distil

RECIPE = """\
recipe = 1
seed = 3
logger = []
[run]
duration = "4ep"
device = "cpu"
threads = 1
[data]
use = "wine"
batch_size = 16
seed = 3
[model]
use = "mlp"
widths = [16]
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
use = "adam"
lr = 0.01
"""
DISTIL = """
[ensemble]
use = "distil"
executor = "serial"
bootstrap = 20
of = { use = "seeds", members = 2 }
model = { use = "mlp", widths = [4] }
"""


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    found = Plugins()
    found.load()
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, plugins: Plugins) -> Path:
    """An ensemble folder with a student, its teacher and the runs."""
    from trainkit.ensemble.session import make_ensemble

    folder = tmp_path_factory.mktemp("distil")
    (folder / "recipe.toml").write_text(RECIPE + DISTIL)
    done = make_ensemble(load_recipe(folder / "recipe.toml", [], plugins), plugins, folder / "made")
    assert done.status == "finished"
    return folder / "made"


def train(made: Path, folder: Path, plugins: Plugins, *changes: str, **more: Any) -> Report:
    file = made.parent / f"{folder.name}.toml"
    file.write_text(RECIPE + '[[callback]]\nuse = "distil"\nteacher = "made/teacher"\n')
    recipe = load_recipe(file, [f'callback.0.teacher="{made / "teacher"}"', *changes], plugins)
    return launch(recipe, plugins, folder=folder, say=lambda text: None, **more)


def rows(ensemble: Ensemble) -> Tensor:
    return torch.randn(7, *ensemble.spec.input_shape, generator=torch.Generator().manual_seed(0))


def test_the_ensemble_is_its_student_alone(made: Path) -> None:
    ensemble, teacher = load_ensemble(made), load_ensemble(made / "teacher")
    assert [member.name for member in ensemble.made_of] == ["the student"]
    assert len(teacher.made_of) == 2
    assert sum(p.numel() for p in ensemble.made_of[0].module.parameters()) == 13 * 4 + 4 + 4 * 3 + 3
    inputs = rows(ensemble)
    assert torch.equal(ensemble(inputs), ensemble.made_of[0].module(inputs) / ensemble.temperature)


def test_opens_where_the_teacher_is_not(made: Path, tmp_path: Path) -> None:
    for name in ("weights", "recipes"):
        shutil.copytree(made / name, tmp_path / name)
    for name in ("ensemble.json", "state.safetensors"):
        if (made / name).is_file():
            shutil.copy(made / name, tmp_path / name)
    ensemble = load_ensemble(tmp_path)
    assert torch.equal(ensemble(rows(ensemble)), load_ensemble(made)(rows(ensemble)))
    assert all("teacher" not in file.read_text() for file in (tmp_path / "recipes").iterdir())


def test_says_what_the_teacher_was_good_for(made: Path) -> None:
    notes = json.loads((made / "report.json").read_text())["notes"]
    (said,) = [note for note in notes if "without a teacher" in note]
    found = load_ensemble(made).ensembler.state()["found"]
    assert f"the student has nll {found['student']:.4g}, its teacher {found['teacher']:.4g}, the same run" in said
    assert ("has not helped" in said) == (found["control"] <= found["student"])


def test_the_teacher_has_on_validation_what_its_folder_gives(made: Path, plugins: Plugins) -> None:
    teacher = load_ensemble(made / "teacher")
    base = Base(trial_recipe(load_recipe(made.parent / "recipe.toml", [], plugins), {}), plugins)
    expected = score("nll", base.measure(teacher, "val"), base.targets("val"), base.spec)
    assert load_ensemble(made).ensembler.state()["found"]["teacher"] == pytest.approx(expected, rel=1e-6)


def test_a_teacher_is_not_judged_by_what_its_members_learnt(tmp_path: Path, plugins: Plugins) -> None:
    from trainkit.ensemble.session import make_ensemble

    (tmp_path / "recipe.toml").write_text(RECIPE + DISTIL)
    of = "ensemble.of={ use = 'folds', folds = 2 }"
    recipe = load_recipe(tmp_path / "recipe.toml", [of, "ensemble.control=false", 'run.duration="1ep"'], plugins)
    made = make_ensemble(recipe, plugins, tmp_path / "made")
    assert set(load_ensemble(tmp_path / "made").ensembler.state()["found"]) == {"student"}
    assert not any("its teacher" in note for note in made.notes)


def test_a_student_of_another_teacher_is_not_taken_for_its_own(made: Path, tmp_path: Path, plugins: Plugins) -> None:
    """The teacher's folder has the same name, so that the student's recipe says nothing of what is in it."""
    from trainkit.ensemble.session import make_ensemble

    shutil.copytree(made, tmp_path / "kept")
    try:

        def go_on(*changes: str) -> str:
            recipe = load_recipe(made / "recipe.toml", list(changes), plugins)
            make_ensemble(recipe, plugins, made, resume=True)
            return json.loads((made / "ensemble.json").read_text())["members"][0]["weights"]

        before = json.loads((made / "ensemble.json").read_text())["members"][0]["weights"]
        with pytest.raises(UsageError, match="was taught by another ensemble"):
            go_on('ensemble.of.combine="logit"')
        assert go_on('ensemble.of.combine="auto"', "ensemble.bootstrap=30") == before
    finally:
        shutil.rmtree(made)
        shutil.copytree(tmp_path / "kept", made)


def test_the_loss_is_hintons(made: Path, plugins: Plugins) -> None:
    spec = load_ensemble(made / "teacher").spec
    lessons = Lessons(spec, made / "teacher", 3.0, 0.7)
    outputs, targets = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])

    class Given:
        inputs = rows(lessons.teacher)[:5]
        index = torch.arange(5)

    Given.targets = targets  # type: ignore[attr-defined]

    class Of:
        loss = staticmethod(cross_entropy)

    run, batch = Of(), Given()
    wanted = (lessons.teacher(batch.inputs).detach() / 3).softmax(-1)
    divergence = (wanted * (wanted.log() - (outputs / 3).log_softmax(-1))).sum(-1).mean()
    expected = 0.7 * 9 * divergence + 0.3 * cross_entropy(outputs, targets)
    assert torch.allclose(lessons.trainkit_loss(run, outputs, batch), expected, atol=1e-6)  # type: ignore[arg-type]


def test_what_the_teacher_gives_does_not_change_with_the_batch(made: Path, tmp_path: Path, plugins: Plugins) -> None:
    """With augmentations each batch is asked for, without them all samples at once: to the same student."""
    asked = train(made, tmp_path / "once", plugins)

    class NothingKept:
        @hookimpl(trylast=True)
        def trainkit_run_start(self, run: Run) -> None:
            for part in run.hook.trainkit_loss.get_hookimpls():
                part.plugin.given = None

    each = train(made, tmp_path / "each", plugins, listeners=[NothingKept()])
    assert each.metrics["val.loss"] == pytest.approx(asked.metrics["val.loss"], rel=1e-5)


class _Stop:
    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        if run.step == 10:
            run.stop_reason, run.interrupted = "a test", True


def test_a_student_goes_on_bit_for_bit(made: Path, tmp_path: Path, plugins: Plugins) -> None:
    whole = train(made, tmp_path / "whole", plugins)
    assert train(made, tmp_path / "parts", plugins, listeners=[_Stop()]).status == "interrupted"
    parts = train(made, tmp_path / "parts", plugins, resume=True)
    assert parts.weights_sha256 == whole.weights_sha256


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('callback.0.teacher="nowhere"', "nowhere"),
        ("data.split_seed=5", "its data (by SHA-256) is"),
        ('data.use="breast_cancer"', "its shape of inputs is"),
    ],
)
def test_teachers_that_cannot_teach_here(change: str, said: str, made: Path, tmp_path: Path, plugins: Plugins) -> None:
    with pytest.raises(RecipeError) as caught:
        train(made, tmp_path / "refused", plugins, change)
    (problem,) = caught.value.problems
    assert said in problem.message
    assert problem.cure
    assert not (tmp_path / "refused").exists()


def test_regression_follows_numbers(tmp_path: Path, plugins: Plugins) -> None:
    from trainkit.ensemble.session import make_ensemble

    text = RECIPE.replace('"wine"', '"diabetes"').replace('"cross_entropy"', '"mse"').replace('"accuracy"', '"mae"')
    (tmp_path / "recipe.toml").write_text(text + DISTIL)
    done = make_ensemble(load_recipe(tmp_path / "recipe.toml", [], plugins), plugins, tmp_path / "made")
    assert done.status == "finished"
    ensemble = load_ensemble(tmp_path / "made")
    spread = ensemble.spec.target_std[0]
    # Below the variance of the targets, in the square of their units: it has learnt something.
    assert 0 < ensemble.ensembler.state()["found"]["student"] < spread**2


def test_a_student_of_draws_is_judged_by_validation_alone(tmp_path: Path, plugins: Plugins) -> None:
    """Its teachers are also asked for training samples that they did not draw; the student has learnt these."""
    from trainkit.ensemble.inference import evaluate_ensemble
    from trainkit.ensemble.session import make_ensemble

    recipe = RECIPE + DISTIL.replace('"seeds"', '"bagging"')
    (tmp_path / "recipe.toml").write_text(recipe)
    done = make_ensemble(load_recipe(tmp_path / "recipe.toml", [], plugins), plugins, tmp_path / "made")
    figures = evaluate_ensemble(tmp_path / "made", "val", plugins)
    sizes = load_ensemble(tmp_path / "made").spec.sizes
    assert done.report["samples"]["validation"] == sizes["val"]
    own = done.report["ensemble"]["validation"]["calibrated"]
    assert own["nll"]["value"] == pytest.approx(figures["nll"], rel=1e-5)
    found = load_ensemble(tmp_path / "made").ensembler.state()["found"]
    raw = done.report["ensemble"]["validation"]["raw"]
    assert found["student"] == pytest.approx(raw["nll"]["value"], rel=1e-5)


def test_a_student_cannot_be_the_teacher_of_another() -> None:
    teacher = distil(of=seeds())
    with pytest.raises(ValueError, match=r"distil cannot learn from distil\n  name the ensemble that teaches"):
        distil(of=teacher)
