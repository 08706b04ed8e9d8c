"""What a model made of tokens, as parts of a page."""

from __future__ import annotations

from collections.abc import Sequence

from trainkit.page import Block, Curves, Line, Section, Table
from trainkit.report.look_tokens import TokensSeen


def token_blocks(seen: TokensSeen) -> list[Block]:
    """The cost of tokens by their place, the dearest ones, and those that are taken for others."""
    blocks: list[Block] = []
    if len(seen.positions) > 1:
        line = Line("model", {"position": list(range(len(seen.positions)))}, seen.positions)
        blocks.append(
            Curves("cost by the token's place in its sample", [line], "nats a token", smooth=False, axis="position")
        )
    if seen.dearest:
        rows = [
            (one.name, one.count, one.nats, one.right, one.count * one.nats / seen.total if seen.total else None)
            for one in seen.dearest
        ]
        columns = ("token", "times", "nats each", "right", "share of all nats")
        blocks.append(Table(columns, rows, "tokens that cost most altogether"))
    if seen.pairs:
        blocks.append(Table(("token", "taken for", "times"), seen.pairs, "most frequent confusions"))
    return blocks


def token_texts(texts: Sequence[tuple[int, float, str]]) -> Section:
    """The samples that cost most."""
    return Section("Worst samples", [Table(("sample", "nats a token", "text"), texts, "highest loss")])
