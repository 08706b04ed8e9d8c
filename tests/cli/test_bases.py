"""The SHA-256 of every base in environment.json: of runs, studies and ensembles, also when they are continued."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

SEARCH = """
[search]
use = "random"
trials = 1
executor = "serial"
[search.space]
"optimizer.lr" = { low = 0.1, high = 1.0 }
"""


def bases(folder: str) -> dict[str, str]:
    return json.loads(Path(folder, "environment.json").read_text(encoding="utf-8"))["bases"]


@pytest.fixture
def derived(recipe, recipe_package, tmp_path) -> dict[str, str]:
    """Write ``lab/mine.toml``, which has a base beside it, that one's base, and a packaged one; their hashes."""
    shipped = recipe_package("trainkit_shipping", {"deep/few": '[optimizer]\nuse = "sgd"\nlr = 0.2\n'})
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "near.toml").write_bytes(
        b'\xef\xbb\xbfextends = "../small.toml"\r\n[run]\r\nduration = "1ep"\r\n'
    )
    (tmp_path / "lab" / "mine.toml").write_text(
        'extends = ["near.toml", "trainkit_shipping:deep/few"]\n', encoding="utf-8"
    )
    return {
        "near.toml": hashlib.sha256(b'extends = "../small.toml"\n[run]\nduration = "1ep"\n').hexdigest(),
        "../small.toml": hashlib.sha256((tmp_path / recipe).read_bytes()).hexdigest(),
        "trainkit_shipping:deep/few": hashlib.sha256((shipped / "deep" / "few.toml").read_bytes()).hexdigest(),
    }


def test_a_run_knows_its_bases_wherever_it_was_begun_from(trainkit, derived, tmp_path, monkeypatch):
    assert trainkit("run", "lab/mine.toml", "--run-dir", "a").code == 0
    assert bases("a") == derived
    monkeypatch.chdir(tmp_path / "lab")
    assert trainkit("run", "mine.toml", "--run-dir", "../b").code == 0
    assert bases("../b") == derived
    history = json.loads(Path("../b/history.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert history["environment"]["bases"] == derived


def test_a_run_that_is_continued_keeps_the_bases_it_was_begun_with(trainkit, derived, recipe, tmp_path):
    trainkit("run", "lab/mine.toml", "--run-dir", "a")
    (tmp_path / recipe).write_text((tmp_path / recipe).read_text() + "# changed, and no drift\n", encoding="utf-8")
    outcome = trainkit("resume", "a", "run.duration=2ep", "run.on_length_change=rescale")
    assert (outcome.code, bases("a")) == (0, derived)


def test_a_recipe_without_bases_has_none(trainkit, recipe):
    assert trainkit("run", recipe, "--run-dir", "a").code == 0
    assert bases("a") == {}


def test_a_study_knows_its_bases_and_its_trials_extend_nothing(trainkit, derived, tmp_path):
    with open(tmp_path / "lab" / "mine.toml", "a", encoding="utf-8") as file:
        file.write(SEARCH)
    assert trainkit("run", "lab/mine.toml", "--run-dir", "s").code == 0
    assert bases("s") == derived
    (trial,) = Path("s", "trials").iterdir()
    assert bases(str(trial)) == {}
    assert trainkit("resume", "s", "search.trials=2", "run.keep=3", "--accept-drift").code == 0
    assert bases("s") == derived


def test_an_ensemble_knows_its_bases(trainkit, derived, tmp_path):
    with open(tmp_path / "lab" / "mine.toml", "a", encoding="utf-8") as file:
        file.write('[ensemble]\nuse = "seeds"\nmembers = 2\n')
    assert trainkit("run", "lab/mine.toml", "--run-dir", "e").code == 0
    assert bases("e") == derived
