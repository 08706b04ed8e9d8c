"""``trainkit predict RUN --prompt TEXT``: what is drawn, from which weights, and what is said where it cannot be."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit.cli import main
from trainkit.continuing import Wanted, draw, write_on
from trainkit.errors import RunError
from trainkit.finished import open_run
from trainkit.manager import Plugins

TEXT = "the cat sat on the mat, and the dog sat on the log. " * 60
RECIPE = """\
recipe = 1
seed = 3
logger = []
[run]
duration = "60ba"
device = "cpu"
threads = 1
[data]
use = "text"
path = "my.txt"
tokens = "characters"
context = 16
batch_size = 16
[model]
use = "gpt"
layers = 1
heads = 2
width = 16
[loss]
use = "cross_entropy"
[optimizer]
use = "adamw"
lr = 0.01
"""
# A model of the user's own: it writes on by the one token before, and one that cannot.
OWN = """\
import torch
from torch import nn
from trainkit import Component, DataSpec, hookimpl

class Bigram(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.scores = nn.Embedding(outputs, outputs)

    def forward(self, inputs):
        return self.scores(inputs)

class Talking(Bigram):
    def following(self, tokens, state=None):
        return self.scores(tokens[:, -1]), None

def bigram(data_spec: DataSpec, /, *, silent: bool = False) -> nn.Module:
    "Look at one token alone."
    return (Bigram if silent else Talking)(data_spec.outputs)

@hookimpl
def trainkit_components():
    return [Component("model", bigram)]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text, and a run that has learned it a little: ``run``."""
    folder = tmp_path_factory.mktemp("writing")
    (folder / "my.txt").write_text(TEXT, encoding="utf-8")
    (folder / "own.py").write_text(OWN, encoding="utf-8")
    (folder / "r.toml").write_text(RECIPE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["r.toml", "--run-dir", "run", "-q", "--without", "reports"]) == 0
    return folder


@pytest.fixture
def predict(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run ``trainkit predict``: exit code, standard output, standard error."""
    monkeypatch.chdir(place)

    def predict(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["predict", *words])
        return code, *capsys.readouterr()

    return predict


def test_the_text_follows_from_prompt_and_seed(predict: Callable[..., Any]) -> None:
    code, text, _ = predict("run", "--prompt", "the cat", "--tokens", "30")
    assert code == 0
    assert text.startswith("the cat")
    assert len(text) == 7 + 30 + 1
    assert predict("run", "--prompt", "the cat", "--tokens", "30", "--seed", "3")[1] == text, "the recipe's seed"
    assert predict("run", "--prompt", "the cat", "--tokens", "30", "--seed", "4")[1] != text
    assert predict("run", "--prompt", "the dog", "--tokens", "30")[1] != text


def test_json_and_a_file_hold_the_text(predict: Callable[..., Any], place: Path) -> None:
    words = "run", "--prompt", "the c", "--tokens", "9", "--top-k", "3", "--temperature", "0.5", "--seed", "8"
    found = json.loads(predict(*words, "--json")[1])
    text = found.pop("text")
    asked = {"run": "run", "prompt": "the c", "tokens": 9, "top_k": 3, "temperature": 0.5, "seed": 8}
    assert found == asked
    assert predict(*words, "--out", "text.txt")[1] == "text.txt\n"
    assert (place / "text.txt").read_text(encoding="utf-8") == text
    assert json.loads(predict(*words, "--out", "text.txt", "--json")[1]) == {**asked, "out": "text.txt"}


@pytest.mark.parametrize("how", [("--temperature", "0"), ("--top-k", "1")])
def test_the_likeliest_token_is_that_of_the_whole_model(
    predict: Callable[..., Any], place: Path, how: tuple[str, str]
) -> None:
    """Beyond the context too: of 40 characters the model sees the last 16."""
    text = predict("run", "--prompt", "the cat", "--tokens", "40", *how)[1].rstrip("\n")
    run = open_run(place / "run", Plugins())
    vocabulary = run.feed.spec.vocabulary
    assert vocabulary is not None
    numbers = vocabulary.encode("the cat")
    run.model.eval()
    with torch.no_grad():
        for _ in range(40):
            numbers.append(int(run.model(torch.tensor([numbers[-16:]]))[0, -1].argmax()))
    assert vocabulary.decode(numbers) == text


def test_tokens_are_drawn_by_their_chances() -> None:
    scores = torch.tensor([0.5, -1.0, 2.0, 1.0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)

    def shares(**wanted: Any) -> list[float]:
        drawn = [draw(scores, Wanted("", **wanted), generator) for _ in range(4000)]
        return [drawn.count(number) / 4000 for number in range(4)]

    cooled = [math.exp(score / 0.7) for score in scores.tolist()]
    assert shares(temperature=0.7) == pytest.approx([part / sum(cooled) for part in cooled], abs=0.03)
    best = math.exp(2.0) / (math.exp(2.0) + math.exp(1.0))
    assert shares(top_k=2) == pytest.approx([0.0, 0.0, best, 1 - best], abs=0.03)
    assert shares(top_k=99) == pytest.approx(scores.softmax(0).tolist(), abs=0.03)
    assert draw(scores * 1e300, Wanted("", temperature=1e-9), generator) == 2


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_scores_that_are_not_finite_are_refused(wrong: float, temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(RunError, match="scores of the next token are not finite: train it anew"):
        draw(torch.tensor([0.0, wrong], dtype=torch.float64), Wanted("", temperature=temperature), generator)
    barred = torch.tensor([-math.inf, 0.0], dtype=torch.float64)
    assert draw(barred, Wanted("", temperature=temperature), generator) == 1


def test_the_weights_are_those_that_evaluations_measure(
    predict: Callable[..., Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainkit_text.transformer import Transformer

    words = "r.toml", "--run-dir", "averaged", "-q", "--without", "reports", "callback=[{use='ema', decay=0.95}]"
    assert main(list(words)) == 0
    seen: list[float] = []
    following = Transformer.following

    def watched(self: Transformer, *given: Any) -> Any:
        seen.append(self.tokens.weight.sum().item())
        assert not self.training
        return following(self, *given)

    monkeypatch.setattr(Transformer, "following", watched)
    assert predict("averaged", "--prompt", "the", "--tokens", "2")[0] == 0
    plain = open_run(place / "averaged", Plugins()).model.get_parameter("tokens.weight").sum().item()
    assert len(seen) == 2
    assert seen[0] == seen[1] != plain


def test_a_model_of_ones_own_writes_on(predict: Callable[..., Any]) -> None:
    words = "-p", "./own.py", "-q", "--without", "reports", "run.duration=2ba"
    assert main(["r.toml", "model={use='bigram'}", "--run-dir", "own", *words]) == 0
    code, text, _ = predict("own", "--prompt", "the", "--tokens", "5", "-p", "./own.py")
    assert (code, len(text)) == (0, 9)
    assert main(["r.toml", "model={use='bigram', silent=true}", "--run-dir", "silent", *words]) == 0
    code, _, said = predict("silent", "--prompt", "the", "-p", "./own.py")
    assert code == 2
    assert "--prompt: model 'bigram' of silent does not write on from a text: leave --prompt out, or train one" in said


def test_what_comes_next_is_given_back_to_the_model() -> None:
    """The prompt at first, then each token with the state of the last call."""
    calls: list[tuple[list[int], Any]] = []

    class Counting:
        def following(self, tokens: torch.Tensor, state: Any = None, /) -> tuple[torch.Tensor, Any]:
            calls.append((tokens[0].tolist(), state))
            return torch.nn.functional.one_hot((tokens[:, -1] + 1) % 5, 5).float(), len(calls)

    progress: list[tuple[int, int, str]] = []
    wanted = Wanted("", tokens=3, temperature=0)
    numbers = write_on(Counting(), [0, 3], wanted, 1, "cpu", lambda *shown: progress.append(shown))
    assert numbers == [4, 0, 1]
    assert calls == [([0, 3], None), ([4], 1), ([0], 2)]
    assert progress == [(1, 3, "writing"), (2, 3, "writing"), (3, 3, "")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prompt", "the cät"], "--prompt: unknown character: 'ä' (U+00E4)"),
        (["--prompt", ""], "--prompt is empty: write at least one character to go on from"),
        (["--prompt", "the", "--tokens", "0"], "--tokens 0: write a whole number, at least 1"),
        (["--prompt", "the", "--temperature", "-1"], "--temperature -1: write a number, at least 0"),
        (["--prompt", "the", "--temperature", "nan"], "--temperature nan: write a number, at least 0"),
        (["--prompt", "the", "--top-k", "0"], "--top-k 0: write a whole number, at least 1"),
        (["--prompt", "the", "--seed", "-1"], "--seed -1: write a whole number, at least 0"),
        (["--prompt", "the", "--split", "val"], "--split val and --prompt exclude each other"),
        (["--top-k", "3"], "--top-k is for texts that a model writes on: add --prompt TEXT, or leave it out"),
    ],
)
def test_what_is_asked_for_wrongly_is_said(predict: Callable[..., Any], words: list[str], said: str) -> None:
    code, out, err = predict("run", *words)
    assert (code, out) == (2, "")
    assert said in err


def test_what_is_no_single_run_on_text_is_refused(predict: Callable[..., Any], place: Path) -> None:
    (place / "ensemble").mkdir(exist_ok=True)
    (place / "ensemble" / "ensemble.json").write_text("{}", encoding="utf-8")
    assert "--prompt is for single runs, and ensemble holds an ensemble" in predict("ensemble", "--prompt", "the")[2]
    words = "data={use='synthetic', task='tokens', samples=60, features=[16], batch_size=8}", "run.duration=1ba", "-q"
    assert main(["r.toml", *words, "--run-dir", "numbers", "--without", "reports"]) == 0
    code, _, said = predict("numbers", "--prompt", "the")
    assert code == 2
    assert "--prompt: numbers was trained on data 'synthetic', which is no text; leave --prompt out" in said
