"""Balanced sampling: equal shares of the classes, every sample in turn, a pure function of seed and epoch."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch

from trainkit import Batch, DataError, Dataset, DataSpec, Draw, RecipeError, Split
from trainkit.build_data import make_dataset
from trainkit.distributed.share import Share
from trainkit.feed import make_feed
from trainkit.feed.sampling import balanced_order, class_members
from trainkit.feed.together import together
from trainkit.instantiate import Builder
from trainkit.manager import Plugins
from trainkit.protocols import silent
from trainkit.recipe import load_recipe
from trainkit.testing.tiny import TINY
from trainkit.testing.whole import in_parts, trained

COUNTS = (70, 23, 7)


class Noisy:
    """Adds numbers that are drawn, anew in each epoch and once for all."""

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        """Add them in columns of their own."""
        drawn = torch.cat([draw("a"), draw.lasting("b")], 1)
        return Batch(torch.cat([batch.inputs[:, :1], drawn], 1), batch.targets, batch.index)


def rows(counts: tuple[int, ...] = COUNTS, task: str = "classification") -> Dataset:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    targets = labels.float() if task == "binary" else labels
    inputs = torch.arange(len(labels)).float()[:, None].repeat(1, 3)
    spec = DataSpec((3,), task, 1 if task == "binary" else len(counts), tuple("abc")[: len(counts)])
    return Dataset(spec, {"train": Split(inputs, targets)})


def feed(**settings: Any) -> Any:
    given = {"batch_size": 8, "seed": 5, "device": "cpu", "sampling": "balanced"}
    return make_feed(settings.pop("dataset", rows()), **(given | settings))


def drawn(epoch: int, **settings: Any) -> list[int]:
    return [number for batch in feed(**settings).train(epoch) for number in batch.index.tolist()]


def test_classes_come_equally_often_and_take_turns_at_what_is_left_over() -> None:
    data = rows()
    total: Counter[int] = Counter()
    for epoch in range(3):
        index = drawn(epoch, dataset=data)
        assert len(index) == 100
        shares = Counter(data.splits["train"].targets[index].tolist())
        assert sorted(shares.values()) == [33, 33, 34]
        total += shares
    assert total == {0: 100, 1: 100, 2: 100}


def test_no_sample_comes_again_before_all_of_its_class_have_come() -> None:
    targets = rows().splits["train"].targets
    index = torch.tensor([number for epoch in range(6) for number in drawn(epoch)])
    for label, count in enumerate(COUNTS):
        own = Counter(index[targets[index] == label].tolist())
        assert len(own) == count
        assert max(own.values()) - min(own.values()) <= 1, "over all epochs, not in each alone"


@pytest.mark.parametrize("epoch", range(4))
def test_an_epoch_goes_on_in_each_class_where_the_last_one_ended(epoch: int) -> None:
    """The draws of each class are parts of one walk, which an epoch of three times the samples would begin alike."""
    members = class_members(rows())
    codes = balanced_order(members, 5, epoch)
    assert codes.unique().numel() == 100, "a sample that comes again can be told from its first draw"
    assert torch.equal(codes, balanced_order(members, 5, epoch))
    assert not torch.equal(codes, balanced_order(members, 6, epoch))
    rare = codes[torch.isin(codes % 100, members[2])]
    assert Counter((rare % 100).tolist()).keys() == set(members[2].tolist())
    assert set((rare // 100).tolist()) <= {0, 1, 2, 3, 4, 5}


def test_the_order_within_an_epoch_is_mixed_over_the_classes() -> None:
    targets = rows().splits["train"].targets
    assert len({tuple(targets[drawn(epoch)[:8]].tolist()) for epoch in range(4)}) == 4
    assert all(len(set(targets[drawn(epoch)[:30]].tolist())) == 3 for epoch in range(4))


def test_binary_targets_are_two_classes() -> None:
    data = rows((90, 10), "binary")
    assert Counter(data.splits["train"].targets[drawn(0, dataset=data)].tolist()) == {0.0: 50, 1.0: 50}


def test_a_class_without_training_samples_is_left_out() -> None:
    data = rows((12, 0, 4))
    index = drawn(0, dataset=data, batch_size=4)
    assert Counter(data.splits["train"].targets[index].tolist()) == {0: 8, 2: 8}


@pytest.mark.parametrize("augmentations", [(), (Noisy(),)], ids=["plain", "augmented"])
def test_loading_batch_size_and_start_change_nothing(augmentations: tuple[Noisy, ...]) -> None:
    def values(**settings: Any) -> torch.Tensor:
        start = settings.pop("start", 0)
        held = feed(augmentations=augmentations, **settings)
        batches = list(held.train(2, start=start))
        held.close()
        return torch.cat([torch.cat([batch.inputs, batch.index[:, None].float()], 1) for batch in batches])

    whole = values()
    assert torch.equal(whole, values(batch_size=20))
    assert torch.equal(whole, values(loading="streamed", workers=0))
    assert torch.equal(whole, values(loading="streamed", workers=2))
    assert torch.equal(whole[40:], values(start=5))
    shares = [list(feed(augmentations=augmentations, share=Share(rank, 2)).train(2)) for rank in (0, 1)]
    joined = torch.cat([part.inputs for pair in zip(*shares, strict=True) for part in pair])
    assert torch.equal(whole[:, :-1], joined)


def test_a_sample_that_comes_again_is_augmented_anew_but_keeps_what_lasts() -> None:
    batches = list(feed(augmentations=(Noisy(),)).train(0))
    inputs, index = (torch.cat(parts) for parts in zip(*((b.inputs, b.index) for b in batches), strict=True))
    again = inputs[index == index.mode().values]
    assert len(again) > 3
    assert len(again[:, 1].unique()) == len(again)
    assert len(again[:, 2].unique()) == 1


def test_feeds_that_draw_otherwise_are_not_gathered_together() -> None:
    held = [feed(), feed(), feed(sampling="once")]
    made = together(held[:2])
    assert made is not None
    assert next(iter(made.train([0, 0], 0)))[0].index.tolist() == drawn(0)[:8]
    assert together(held) is None


@pytest.mark.parametrize("task", ["regression"])
def test_data_without_classes_is_refused(task: str) -> None:
    with pytest.raises(DataError, match=rf'sampling = "balanced".* task is {task}'):
        feed(dataset=rows(task=task))


def recipe(tmp_path: Path, **tables: Any) -> Any:
    installed = Plugins()
    installed.load()
    path = tmp_path / "tiny.toml"
    path.write_text(tomli_w.dumps(TINY | {"data": TINY["data"] | {"sampling": "balanced"}} | tables), encoding="utf-8")
    return load_recipe(path, [], installed)


def test_a_run_in_parts_equals_one_that_is_not(tmp_path: Path) -> None:
    made = recipe(tmp_path)
    assert trained(made, tmp_path / "straight").difference(in_parts(made, tmp_path / "broken", (1, 3, 4))) == ""


def test_the_problem_of_data_without_classes_names_its_line(tmp_path: Path) -> None:
    made = recipe(tmp_path, data={"use": "diabetes", "sampling": "balanced"}, loss={"use": "mse"}, metric=[])
    with pytest.raises(RecipeError, match=r"sampling = .balanced.*regression") as raised:
        trained(made, tmp_path / "run")
    assert raised.value.exit_code == 2
    assert raised.value.problems[0].place.line


def test_stored_order_and_balanced_draws_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="shuffle = false keeps their order"):
        recipe(tmp_path, data=TINY["data"] | {"sampling": "balanced", "shuffle": False})


def test_each_fold_draws_from_its_own_training_samples(tmp_path: Path) -> None:
    made = recipe(tmp_path, data={"use": "wine", "sampling": "balanced", "folds": 3, "batch_size": 8})
    data = make_dataset(Builder(made, made.plugins, silent), lambda text: None)
    members = class_members(data)
    assert sum(map(len, members)) == data.spec.sizes["train"]
    assert [len(own) for own in members] == list(data.spec.class_counts)
