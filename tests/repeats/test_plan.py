"""Which runs --seeds and --folds ask for, and what a repeats.json may say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainkit.errors import UsageError
from trainkit.repeats.plan import Plan, Repeat, plan_from, planned


@pytest.mark.parametrize(
    ("seeds", "folds", "names", "over"),
    [
        ("3", None, ["seed-17", "seed-18", "seed-19"], "seed"),
        ("1", None, ["seed-17"], "seed"),
        ("5,", None, ["seed-5"], "seed"),
        ("9, 2,4", None, ["seed-9", "seed-2", "seed-4"], "seed"),
        (None, "2", ["fold-0", "fold-1"], "fold"),
        ("0,7", "2", ["seed-0-fold-0", "seed-0-fold-1", "seed-7-fold-0", "seed-7-fold-1"], "seed and fold"),
    ],
)
def test_the_runs_that_are_asked_for(seeds, folds, names, over):
    plan = planned(seeds, folds, 17)
    assert ([one.name for one in plan.repeats], plan.over) == (names, over)
    assert json.loads(plan.as_json()) == {"over": over, "runs": names, "folds": int(folds) if folds else None}
    assert plan_from(plan.as_json(), "repeats.json") == plan


@pytest.mark.parametrize(
    ("seeds", "folds", "said"),
    [
        ("x", None, "--seeds x: write how many"),
        ("-1", None, "--seeds -1: write how many"),
        ("1.5", None, "--seeds 1.5: write how many"),
        ("", None, "write how many"),
        ("1,,2", None, "write how many"),
        ("\u0664", None, "write how many"),
        ("0", None, "write a number from 1 to 1000"),
        ("1001", None, "write a number from 1 to 1000"),
        ("4,5,4", None, "the seed 4 comes twice"),
        (None, "1", "--folds 1: write into how many parts"),
        (None, "two", "--folds two: write into how many parts"),
        ("400", "5", "ask for 2000 runs; at most 1000"),
    ],
)
def test_what_cannot_be_asked_for(seeds, folds, said):
    with pytest.raises(UsageError, match=said):
        planned(seeds, folds, 17)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"runs": []}',
        '{"runs": "seed-1"}',
        '{"runs": [1]}',
        '{"runs": [""]}',
        '{"runs": [".."]}',
        '{"runs": ["seed-1/../../etc"]}',
        '{"runs": ["seed-01"]}',
        '{"runs": ["seed-1-"]}',
        '{"runs": ["-fold-1"], "folds": 2}',
        '{"runs": ["seed-1fold-1"], "folds": 2}',
        '{"runs": ["seed-1", "seed-1"]}',
        '{"runs": ["seed-1"], "folds": 2}',
        '{"runs": ["fold-1"]}',
        '{"runs": ["fold-1"], "folds": true}',
        '{"runs": ["fold-1"], "folds": 1}',
        '{"runs": ["fold-1", "seed-1"], "folds": 2}',
    ],
)
def test_a_strangers_file_names_runs_and_nothing_else(text):
    with pytest.raises(UsageError, match=r"r\.json: it does not say which runs there are"):
        plan_from(text, "r.json")


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(0, 10**18), min_size=1, max_size=4, unique=True), st.none() | st.integers(2, 5), st.booleans()
)
def test_a_plan_is_read_as_it_was_written(seeds, folds, seeded):
    chosen = [*seeds] if seeded or folds is None else [None]
    numbers = [*range(folds)] if folds else [None]
    plan = Plan(tuple(Repeat(seed, fold) for seed in chosen for fold in numbers), folds or 0)
    assert plan_from(plan.as_json(), "repeats.json") == plan
