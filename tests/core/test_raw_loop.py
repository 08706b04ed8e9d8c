"""What a recipe is timed against: the same updates as its own, made by a plain loop; and the table of means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit.allocator import can_keep_pages
from trainkit.build import build
from trainkit.means import MEANS, NOT_MEANS, Window
from trainkit.protocols import silent
from trainkit.raw_loop import RawLoop, torch_optimizer
from trainkit.tables import COMPONENT_TABLES, RUN_SETTINGS

GROWING = '{target="data.batch_size", use="growth", growth=2.0, every="1ep", maximum=2.0}'


@pytest.fixture
def built(load, plugins, tmp_path):
    def make(*changes: str, more: str = "") -> Any:
        recipe = load(*changes, more=more)
        return recipe, build(recipe, plugins, tmp_path / "run", silent)

    return make


# ---------------------------------------------------------------- the raw loop


@pytest.mark.parametrize(
    ("optimizer", "kind"),
    [
        ("{use='sgd', lr=0.1, momentum=0.9, nesterov=true, weight_decay=0.1}", "SGD"),
        ("{use='adam', lr=0.01, weight_decay=0.1}", "Adam"),
        ("{use='adamw', lr=0.01, weight_decay=0.1, betas=[0.8, 0.9]}", "AdamW"),
        ("{use='rmsprop', lr=0.01, momentum=0.5}", "RMSprop"),
        ("{use='adagrad', lr=0.01}", "Adagrad"),
        ("{use='adadelta', lr=1.0}", "Adadelta"),
        ("{use='adamax', lr=0.01}", "Adamax"),
        ("{use='nadam', lr=0.01}", "NAdam"),
        ("{use='radam', lr=0.01}", "RAdam"),
        ("{use='rprop', lr=0.01}", "Rprop"),
        ("{use='asgd', lr=0.01}", "ASGD"),
    ],
)
def test_the_optimizer_of_torch_with_the_same_settings_makes_the_same_updates(built, optimizer, kind):
    """Groups included: nothing decays a bias."""
    weights = []
    for plain in (False, True):
        recipe, made = built(f"optimizer={optimizer}")
        run = made.run
        chosen = torch_optimizer(recipe, run.optimizer.param_groups) if plain else run.optimizer
        if plain:
            assert type(chosen) is getattr(torch.optim, kind)
        for batch in [*run.feed.train(0), *run.feed.train(1)]:
            run.loss(run.model(batch.inputs), batch.targets).backward()
            chosen.step()
            chosen.zero_grad()
        weights.append(torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()]))
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        ("optimizer={use='lion', lr=0.001}",),
        ("optimizer={use='sgd', lr=0.1, wrap=[{use='lookahead'}]}",),
        ("optimizer={use='lbfgs', lr=1.0}",),
        ("optimizer={use='sgd', lr=0.1, wrap=[{use='sam'}]}",),
    ],
)
def test_where_torch_has_none_the_recipes_own_is_used_and_that_is_said(built, changes):
    recipe, made = built(*changes)
    loop = RawLoop(recipe, made)
    assert loop.optimizer is made.run.optimizer
    assert "the raw loop uses trainkit's" in loop.notes[0]
    before = [parameter.detach().clone() for parameter in made.run.model.parameters()]
    loop.train(1, 2, lambda: None)
    assert any((old != new).any() for old, new in zip(before, made.run.model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ((), ""),
        (("data.loading=streamed",), "the data does not stay in memory"),
        (("run.accumulate=3",), ""),
        (("data={use='digits', batch_size=64, augment=[{use='cutout'}]}",), "they are augmented"),
        (
            (f"schedule.also=[{GROWING}]",),
            "a schedule sets their size",
        ),
    ],
)
def test_it_makes_as_many_updates_as_it_is_asked_for(built, changes, said):
    recipe, made = built(*changes)
    loop = RawLoop(recipe, made)
    made_before: list[int] = []
    count = 0
    step = loop.optimizer.step

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        return step(*arguments, **named)

    loop.optimizer.step = counted
    loop.train(3, 17, lambda: made_before.append(count))
    assert made_before == [3, 20]
    assert any(said in note for note in loop.notes)
    assert "no schedule (constant), metric (accuracy), no log" in loop.notes[-1] or "data.batch_size" in str(changes)


# ---------------------------------------------------------------- the means


def test_every_setting_of_run_and_data_is_a_means_or_is_named_as_none():
    """Whoever adds a setting has to say which it is; a means joins ``trainkit bench`` by its line in the table."""
    tables = {"run": RUN_SETTINGS, "data": COMPONENT_TABLES["data"].added}
    settings = [f"{table}.{setting.name}" for table, own in tables.items() for setting in own]
    means = [mean.key for mean in MEANS]
    others = [f"{table}.{name}" for table, names in NOT_MEANS.items() for name in names]
    assert sorted([*means, *others]) == sorted(settings)


def test_what_switches_a_means_off_is_a_value_of_its_setting(load):
    tables = load().tables
    for mean in MEANS:
        assert load(f"{mean.key}={mean.off_in(tables)}")


@pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning")  # torch's own, where it compiles
@pytest.mark.parametrize(
    ("changes", "start", "updates", "active"),
    [
        ((), 8, 8, {"save_in_background", "save_every", "evaluate_every", "log_every"}),
        ((), 2, 5, set()),
        (("run.save_in_background=false", "run.save_every=5ep"), 8, 8, {"evaluate_every", "log_every"}),
        (("data.val=0.0", "run.monitor=train.loss", "run.log_every=3ba"), 1, 3, {"log_every"}),
        (("run.precision=bfloat16",), 2, 3, {"precision"}),
        (("run.compile=model",), 2, 3, {"compile"}),
        (("model={use='resnet', depth=8}", "data={use='digits', batch_size=64}"), 2, 3, {"channels_last"}),
        (("model={use='resnet', depth=8}", "data={use='digits'}", "run.channels_last=false"), 2, 3, set()),
        (("run.keep_pages=false", "data.loading=streamed"), 2, 3, {"-keep_pages", "-loading"}),
    ],
)
def test_a_means_is_listed_where_it_does_something(built, changes, start, updates, active):
    _, made = built("run.duration=4ep", *changes)
    window = Window(made, start, updates)
    found = {mean.key.partition(".")[2] for mean in MEANS if mean.active(window)}
    always = {"loading", *(["keep_pages"] if can_keep_pages() else [])}
    assert found - {"eval_batch_size"} == (always | active) - {
        name for name in ("keep_pages", "loading") if f"-{name}" in active
    } - {name for name in active if name.startswith("-")}


def test_the_docs_name_every_means():
    text = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")
    section = text[text.index("## bench") :]
    for mean in MEANS:
        assert f"`{mean.key}`" in section
