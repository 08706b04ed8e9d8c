"""A vocabulary for contracts."""

from __future__ import annotations

from collections.abc import Sequence

from trainkit.errors import DataError


class Letters:
    """A vocabulary of the first letters, for contracts; the last takes two bytes.

    Args:
        count: how many letters.
    """

    def __init__(self, count: int) -> None:
        self._letters = "abcdefghijklmnopqrstuvwxyz"[: count - 1] + "é"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes of each letter."""
        return tuple(len(letter.encode()) for letter in self._letters)

    def encode(self, text: str, /) -> list[int]:
        """The letters' numbers."""
        if unknown := sorted(set(text) - set(self._letters)):
            raise DataError(f"unknown characters: {', '.join(unknown)}")
        return [self._letters.index(letter) for letter in text]

    def decode(self, numbers: Sequence[int], /) -> str:
        """The letters of these numbers."""
        return "".join(self._letters[number] for number in numbers)
