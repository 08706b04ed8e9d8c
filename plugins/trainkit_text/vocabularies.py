"""How text becomes numbers of tokens, and numbers text: bytes, characters, and pairs of bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainkit import DataError, MachineError

if TYPE_CHECKING:
    from trainkit import Vocabulary

_MOST_NAMED = 10  # of unknown characters
_PIECE = 1 << 14  # characters that the library is given at a time
_CUT = re.compile(r"(?<=\S)(?=\r?\n)")


class Bytes:
    """The 256 bytes of UTF-8: a token is a byte, and every text has tokens."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes that each token stands for: one."""
        return (1,) * 256

    def encode(self, text: str, /) -> list[int]:
        """The bytes of a text.

        Raises:
            DataError: if it was made of what is no UTF-8.
        """
        return list(_utf8(text))

    def decode(self, numbers: Sequence[int], /) -> str:
        """The text of bytes; what is no UTF-8 becomes the replacement character."""
        return bytes(numbers).decode(errors="replace")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:  # a command line in another encoding
        wrong = text[error.start]
        raise DataError(
            f"character {error.start + 1} ({wrong!r}) has no form in UTF-8; give the text in UTF-8"
        ) from None


class Characters:
    """One token for each of these characters.

    Args:
        characters: each once; their order is that of the numbers.
    """

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self._numbers = {character: number for number, character in enumerate(characters)}

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes in UTF-8 of each character."""
        return tuple(len(character.encode()) for character in self.characters)

    def encode(self, text: str, /) -> list[int]:
        """The numbers of a text's characters.

        Raises:
            DataError: naming those that are unknown.
        """
        try:
            return [self._numbers[character] for character in text]
        except KeyError:
            pass
        unknown = list(dict.fromkeys(character for character in text if character not in self._numbers))
        named = ", ".join(f"{character!r} (U+{ord(character):04X})" for character in unknown[:_MOST_NAMED])
        more = f" and {len(unknown) - _MOST_NAMED} more" if len(unknown) > _MOST_NAMED else ""
        raise DataError(
            f"unknown character{'s' if len(unknown) > 1 else ''}: {named}{more}: the text of this data has none of "
            'them; leave them out, or train with tokens = "bytes" or "bpe", which know every text'
        )

    def decode(self, numbers: Sequence[int], /) -> str:
        """The characters of these numbers."""
        return "".join(self.characters[number] for number in numbers)


class BytePairs:
    """Byte pairs that were learned from a text; beginning with the 256 bytes, so that every text has tokens.

    Args:
        tokenizer: of the library ``tokenizers``, whose tokens are written in its alphabet of bytes.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        alphabet = {character: number for number, character in enumerate(byte_alphabet())}
        names = [tokenizer.id_to_token(number) for number in range(tokenizer.get_vocab_size())]
        self.pieces = tuple(bytes(alphabet[character] for character in name) for name in names)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes that each token stands for."""
        return tuple(map(len, self.pieces))

    def encode(self, text: str, /) -> list[int]:
        """The numbers of a text's tokens.

        Raises:
            DataError: if it was made of what is no UTF-8.
        """
        _utf8(text)
        found: list[int] = []
        for piece in _pieces(text):
            found += self.tokenizer.encode(piece).ids
        return found

    def decode(self, numbers: Sequence[int], /) -> str:
        """The text of tokens; bytes that are no UTF-8 become the replacement character."""
        return b"".join(self.pieces[number] for number in numbers).decode(errors="replace")


def learn_byte_pairs(text: str, size: int, cache_root: Path | None = None) -> BytePairs:
    """Learn byte pairs from a text; the same text gives the same ones.

    Args:
        text: the training part.
        size: how many tokens, the 256 bytes among them; of a short text there are fewer.
        cache_root: folder of all caches, in which what was learned once is found again; ``None`` for none.

    Raises:
        MachineError: if the library is not installed.

    Source: Sennrich et al. 2016, arXiv 1508.07909; words as Radford et al. 2019 cut them.
    """
    try:
        from tokenizers import Tokenizer, __version__, decoders, models, pre_tokenizers, trainers
    except ImportError:
        raise MachineError(
            "tokens = \"bpe\" needs the library 'tokenizers'; install it with: pip install 'trainkit[text]', or write "
            'tokens = "bytes"'
        ) from None
    # Its threads would warn wherever a process is forked afterwards.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    kept = None
    if cache_root is not None:
        made_of = hashlib.sha256(f"{__version__} {size}\n{text}".encode()).hexdigest()
        kept = cache_root / "byte-pairs" / f"{made_of}.json"
        with contextlib.suppress(Exception):  # not there, or broken: the library raises nothing more exact
            return BytePairs(Tokenizer.from_str(kept.read_text(encoding="utf-8")))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=sorted(byte_alphabet()), special_tokens=[], show_progress=False
    )
    tokenizer.train_from_iterator(_pieces(text), trainer)
    if kept is not None:
        _keep(kept, tokenizer.to_str())
    return BytePairs(tokenizer)


def _keep(file: Path, text: str) -> None:
    """Write a file whole or not at all; a cache that cannot be written costs the time to learn anew, and no run."""
    own = file.with_name(f".{file.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        own.write_text(text, encoding="utf-8")
        own.replace(file)


def _pieces(text: str) -> Iterator[str]:
    """A text in parts with the tokens that it has whole; the library takes very long over a long one.

    Each but the last ends with what can be seen, before the end of a line, where a word ends whatever comes after.
    """
    first = 0
    while first < len(text):
        found = _CUT.search(text, first + _PIECE)
        end = len(text) if found is None else found.end()
        yield text[first:end]
        first = end


def byte_alphabet() -> list[str]:
    """The character by which the library writes each byte: itself where it can be seen, else one from U+0100 on.

    Source: ``bytes_to_unicode`` of Radford et al. 2019, github.com/openai/gpt-2, src/encoder.py.
    """
    seen = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    hidden = [byte for byte in range(256) if byte not in seen]
    return [chr(byte) if byte in seen else chr(256 + hidden.index(byte)) for byte in range(256)]


def vocabulary_of(tokens: str, size: int, whole: str, train: str, cache_root: Path | None = None) -> Vocabulary:
    """The vocabulary that the settings ask for.

    Args:
        tokens: ``bytes``, ``characters`` or ``bpe``.
        size: how many byte pairs.
        whole: the whole text, whose characters are the alphabet: which characters there are is known beforehand.
        train: its training part, which byte pairs are learned from.
        cache_root: as `learn_byte_pairs`.
    """
    if tokens == "bytes":
        return Bytes()
    if tokens == "characters":
        return Characters("".join(sorted(set(whole))))
    return learn_byte_pairs(train, size, cache_root)
