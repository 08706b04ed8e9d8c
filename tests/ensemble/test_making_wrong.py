"""What goes wrong while an ensemble is made has one clear message, the right exit code, and loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ensemble.making_parts import Making, trained
from trainkit.ensemble.training import MemberFailed
from trainkit.errors import Exit, PluginDefect, RecipeError, UsageError


def test_without_validation_samples_nothing_is_trained(tmp_path: Path, making: Making) -> None:
    with pytest.raises(UsageError, match=r"no validation samples to choose members") as refused:
        making(tmp_path / "e", "data={ use = 'wine', val = 0.0, batch_size = 16 }")
    assert refused.value.exit_code == Exit.RECIPE
    assert not (tmp_path / "e").exists()


def test_a_member_that_fails_ends_it_and_the_others_are_kept(tmp_path: Path, making: Making) -> None:
    with pytest.raises(MemberFailed) as failed:
        making(tmp_path / "e", "ensemble=pair", "ensemble.lr=1e30")
    assert failed.value.exit_code == Exit.FAILED
    said = str(failed.value).splitlines()
    assert said[0].startswith(f"{tmp_path}/e/members/0001: member 1 has failed (nan): ")
    assert said[-1] == (
        f"  the other members are kept; to go on from its newest checkpoint: trainkit resume {tmp_path}/e"
    )
    assert list(trained(tmp_path / "e")) == ["0000", "0001"]
    assert not (tmp_path / "e/ensemble.json").exists()


def test_a_defect_of_a_plugin_in_a_member_is_named(tmp_path: Path, making: Making) -> None:
    with pytest.raises(MemberFailed, match=r"(?s)member 1 has failed \(error\).*lost at 3") as failed:
        making(tmp_path / "e", "ensemble=pair", "ensemble.crash=3")
    assert failed.value.exit_code == Exit.DEFECT
    assert "trainkit_ensemble_parts" in str(failed.value)


def test_a_longer_run_that_fails_is_said_and_ends_nothing(tmp_path: Path, making: Making) -> None:
    crash = "callback=[{ use = 'act', at = 20 }]"
    made = making(tmp_path / "e", "ensemble.longer=true", crash)
    assert made.status == "finished"
    assert "longer" not in made.report
    assert any(note.startswith("there is no longer run to compare with: ") for note in made.notes)


def test_changes_that_make_no_recipe_are_problems_of_the_ensembler(tmp_path: Path, making: Making) -> None:
    with pytest.raises(RecipeError) as caught:
        making(tmp_path / "e", "ensemble={ use = 'pair', lr = -1.0 }")
    (problem,) = caught.value.problems
    assert problem.message.startswith("[ensemble] pair, member 1: [optimizer] sgd lr")
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("gather", "KeyError: 'lost'"),
        ("nothing", "[ensemble] pair in gather: gave no member"),
        ("text", "[ensemble] pair in gather: gave str where a member was to be"),
        ("none", "[ensemble] pair in gather: gave NoneType where a member was to be"),
        ("twice", "[ensemble] pair in gather: gave several members of one name: member 0"),
        ("add", "ZeroDivisionError"),
        ("fit", "IndexError: out"),
        ("predict", "AttributeError: nothing"),
        ("no members", "[ensemble] pair in members: gave no member"),
        ("state", "[ensemble] pair in state: "),
    ],
)
def test_an_ensembler_that_fails_is_named(tmp_path: Path, making: Making, wrong: str, said: str) -> None:
    with pytest.raises(PluginDefect) as caught:
        making(tmp_path / "e", "ensemble=pair", f"ensemble.wrong={wrong}")
    assert said in str(caught.value)
    assert "trainkit_ensemble_parts" in str(caught.value)
    assert not (tmp_path / "e/ensemble.json").exists()


def test_what_is_no_ensembler_is_said(tmp_path: Path, making: Making) -> None:
    with pytest.raises(
        PluginDefect,
        match=r"gave an object of object, not a trainkit\.Ensembler: gather, add, fit, predict, members, state",
    ):
        making(tmp_path / "e", "ensemble=lacking")
    assert not (tmp_path / "e").exists()


def test_what_an_ensembler_refuses_reaches_the_user_as_it_is(tmp_path: Path, making: Making) -> None:
    with pytest.raises(UsageError, match=r"^these cannot be combined\n  name others$"):
        making(tmp_path / "e", "ensemble=pair", "ensemble.wrong=refuse")
    assert not (tmp_path / "e").exists()


def test_what_is_refused_after_training_says_how_the_members_can_be_used(tmp_path: Path, making: Making) -> None:
    with pytest.raises(UsageError) as refused:
        making(tmp_path / "e", "ensemble=pair", "ensemble.wrong=refuse in fit")
    assert str(refused.value).splitlines() == [
        "there are too few samples",
        "  bring more",
        f"  the members are kept; to combine them in another way: trainkit resume {tmp_path}/e ensemble=greedy",
    ]
    before = trained(tmp_path / "e")
    made = making.resume(tmp_path / "e", "ensemble={ use = 'topk', members = 2, bootstrap = 20 }")
    assert made.status == "finished"
    assert trained(tmp_path / "e") == before
