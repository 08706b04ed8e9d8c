"""Text as data: parts in time, tokens that are the text again, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainkit import DataError, Dataset, MachineError, Vocabulary
from trainkit.feed.folds import cut_anew
from trainkit.protocols import silent
from trainkit_text import vocabularies
from trainkit_text.data import text
from trainkit_text.reading import read_text
from trainkit_text.vocabularies import Bytes, Characters, byte_alphabet, learn_byte_pairs

# Three parts that can be told apart: digits train, letters validate, capitals and a letter of two bytes are the test.
DIGITS, LETTERS, CAPITALS = "0123456789" * 8, "abcdefghij", "ABCDEFGHIÉ"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(DIGITS + LETTERS + CAPITALS, encoding="utf-8")
    return path


def made(path: Path | None, cache: Path = Path("/nowhere/to/write"), **settings: Any) -> Dataset:
    return text(Path(), cache, silent, **{"path": path, "context": 4, **settings})


def decoded(data: Dataset, rows: Any) -> list[str]:
    vocabulary = data.spec.vocabulary
    assert vocabulary is not None
    return [vocabulary.decode(row) for row in rows.tolist()]


def test_the_parts_follow_each_other_and_targets_are_what_comes_next(file: Path) -> None:
    data = made(file, tokens="characters")
    assert data.spec.task == "tokens"
    assert (data.spec.input_shape, data.spec.tokens_per_sample) == ((4,), 4)
    assert data.spec.outputs == len(set(DIGITS + LETTERS + CAPITALS))
    assert dict(data.spec.sizes) == {"train": 19, "val": 2, "test": 2}
    for name, part in (("train", DIGITS), ("val", LETTERS), ("test", CAPITALS)):
        split, count = data.splits[name], data.spec.sizes[name]
        assert decoded(data, split.inputs[torch.arange(count)]) == [part[4 * i : 4 * i + 4] for i in range(count)]
        assert decoded(data, split.targets) == [part[4 * i + 1 : 4 * i + 5] for i in range(count)]


def test_a_stride_makes_more_samples_of_the_training_part_alone(file: Path) -> None:
    data = made(file, stride=1)
    assert dict(data.spec.sizes) == {"train": 76, "val": 2, "test": 2}
    assert decoded(data, data.splits["train"].inputs[torch.tensor([1])]) == ["1234"]


@pytest.mark.parametrize("stride", [4, 1])
def test_folds_validate_on_what_comes_after_their_training_samples(tmp_path: Path, stride: int) -> None:
    path = tmp_path / "text.txt"
    path.write_text("".join(chr(0x4E00 + place) for place in range(100)), encoding="utf-8")  # each once, in order
    data = made(path, tokens="characters", stride=stride)
    ends = []
    for fold in range(3):
        cut = cut_anew(data, folds=3, fold=fold, fold_by="auto", train_on="train", seed=0)
        train, val = (cut.splits[name].targets for name in ("train", "val"))
        assert int(train.max()) < int(val.min())
        ends.append(int(val.max()))
    assert ends == sorted(set(ends))
    assert ends[-1] == int(data.splits["val"].targets.max())


def test_the_moments_of_samples_are_where_their_targets_stand(file: Path) -> None:
    data = made(file, stride=3)
    whole = DIGITS + LETTERS
    for name in ("train", "val"):
        rows = decoded(data, data.splits[name].targets)
        assert rows == [whole[first : last + 1] for first, last in data.moments[name].tolist()]


TOPICS = "The for statement is used to iterate over the elements of a sequence.\n" * 30


VOCABULARIES: list[Vocabulary] = [Bytes(), learn_byte_pairs(TOPICS, 280)]


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=60))
def test_every_text_has_tokens_and_comes_back(given: str) -> None:
    for vocabulary in VOCABULARIES:
        numbers = vocabulary.encode(given)
        assert vocabulary.decode(numbers) == given
        assert sum(vocabulary.sizes[number] for number in numbers) == len(given.encode())


def test_byte_pairs_are_those_of_the_library(file: Path) -> None:
    learned = VOCABULARIES[1]
    said = "The elements — of “é”"
    library: Any = learned.tokenizer  # type: ignore[attr-defined]
    assert library.decode(library.encode(said).ids) == said
    assert len(learned.sizes) == 280
    assert len(learned.encode("The for statement")) < 12
    alphabet = byte_alphabet()
    assert len(set(alphabet)) == 256
    assert [alphabet[byte] for byte in b" \n!A"] == ["Ġ", "Ċ", "!", "A"]  # as GPT-2 writes them


@pytest.mark.parametrize(("end", "least"), [("\n", 200), ("\r\n", 200), (" \n", 1)])
def test_a_long_text_has_the_tokens_that_the_library_gives_it_whole(
    end: str, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabularies, "_PIECE", 40)  # where a part may end at the earliest
    learned = learn_byte_pairs("of\r\nit \n\n  as\n" * 50, 262)  # pairs of blanks among them
    library: Any = learned.tokenizer
    said = read_text(None, 20000).replace("\n", end)
    assert learned.encode(said) == library.encode(said).ids
    assert len(list(vocabularies._pieces(said))) >= least


def test_byte_pairs_are_learned_from_the_training_part_alone(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("banana " * 300 + "zyzzyva " * 60, encoding="utf-8")
    one, again = (made(path, tokens="bpe", vocabulary_size=300, val=0.1, test=0.1) for _ in range(2))
    assert one.spec.vocabulary is not None
    assert len(one.spec.vocabulary.encode(" banana")) == 1
    assert len(one.spec.vocabulary.encode(" zyzzyva")) == 8  # validation has it, training has not
    assert one.spec.fingerprint == again.spec.fingerprint
    assert one.spec.vocabulary.sizes == again.spec.vocabulary.sizes  # type: ignore[union-attr]


def test_byte_pairs_are_learned_once_and_anew_where_what_was_kept_is_broken(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    first = made(file, cache, tokens="bpe", vocabulary_size=260)
    (kept,) = (cache / "byte-pairs").iterdir()
    written = kept.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(vocabularies, "_pieces", None)  # neither learned nor looked for in parts
        assert vocabularies.learn_byte_pairs(DIGITS, 260, cache).sizes == first.spec.vocabulary.sizes  # type: ignore[union-attr]
    kept.write_text("{}", encoding="utf-8")
    assert made(file, cache, tokens="bpe", vocabulary_size=260).spec.fingerprint == first.spec.fingerprint
    assert kept.read_bytes() == written
    made(file, cache, tokens="bpe", vocabulary_size=261)
    assert len(list((cache / "byte-pairs").iterdir())) == 2


def test_unknown_characters_are_named() -> None:
    vocabulary = Characters("abc")
    assert vocabulary.decode(vocabulary.encode("cab")) == "cab"
    with pytest.raises(DataError, match=r"unknown characters: 'ß' \(U\+00DF\), '!' \(U\+0021\): .*tokens = \"bytes\""):
        vocabulary.encode("aß!ß")
    with pytest.raises(DataError, match=r"character 2 .* has no form in UTF-8"):
        Bytes().encode("a\udcff")


def test_other_tokens_other_windows_and_another_text_are_other_data(file: Path) -> None:
    several = [{}, {"tokens": "characters"}, {"context": 3}, {"stride": 2}, {"val": 0.2}, {"limit": 90}]
    assert len({made(file, **one).spec.fingerprint for one in several}) == len(several)


def test_without_a_file_it_is_pythons_own_documentation() -> None:
    data = made(None, limit=4000, context=16, tokens="characters")
    first = decoded(data, data.splits["train"].inputs[torch.arange(4)])
    assert "".join(first).startswith('The "assert" statement\n***')
    assert sum(data.spec.sizes.values()) == 3200 // 16 - 1 + 2 * (400 // 16 - 1)


def test_a_mark_of_byte_order_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbf" + b"abcdefgh" * 20)
    data = made(path)
    assert decoded(data, data.splits["train"].inputs[torch.tensor([0])]) == ["abcd"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"context": 200},
            r"train part has 80 tokens; a sample of context = 200 .* needs 201: give a longer text, or set",
        ),
        (
            {"context": 10},
            r"the val part \(val = 0.1 of the text\) has 10 tokens; .*: set val = 0, or set context = 9 or",
        ),
        ({"context": 11, "val": 0}, r"the test part \(test = 0.1 .*has 11 tokens"),
        ({"val": 0.5, "test": 0.5}, "val = 0.5, test = 0.5 leave nothing of the text for training"),
    ],
)
def test_text_that_is_too_short_is_refused(file: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        made(file, **changes)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (None, "there is no file .*text.txt; relative paths start at"),
        (b"good line\nbad \xff byte", r"text.txt:2: byte 14 \(0xff\) is not UTF-8; write the file in it"),
        (b"\xef\xbb\xbfbad \xff byte", r"text.txt:1: byte 7 \(0xff\) is not UTF-8"),
        (b"", "the train part has 0 tokens"),
    ],
)
def test_files_that_are_no_text_are_refused(tmp_path: Path, held: bytes | None, said: str) -> None:
    path = tmp_path / "text.txt"
    if held is not None:
        path.write_bytes(held)
    with pytest.raises(DataError, match=said):
        made(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read: .*; name a file of text"):
        made(tmp_path)


def test_byte_pairs_without_the_library_say_how_to_install_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MachineError, match=r"pip install 'trainkit\[text\]', or write tokens = \"bytes\""):
        made(file, tokens="bpe")


def test_a_python_without_its_topics_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(MachineError, match=r"came without the topics of its help.*name a file"):
        made(None)
