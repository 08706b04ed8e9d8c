"""What language models reach on the text that comes with Python, beside compressors and n-grams, on the same split.

    python benchmarks/language_models.py [--quick] [--only NAME ...]

Bits for each byte of the validation and the test part; a byte without a model takes 8. Everything is learned from the
training part alone, but that a compressor goes on learning from the part that it goes through: its figure is what the
part adds to the training part compressed before it. The n-grams are of bytes, interpolated by Kneser and Ney's rule.
Models are those of recipes/lm_bpe.toml, with three ways to train them; all of them together take about ten minutes on
one core.

A second table is of what is left of both parts without the strings of 64 bytes and more that stood before, in the
training part or in the part itself.
"""

from __future__ import annotations

import argparse
import bz2
import lzma
import math
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import fmean

from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit_text.reading import cut_in_time, read_text

RECIPE = Path(__file__).parents[1] / "recipes" / "lm_bpe.toml"
PARTS = ("val", "test")
LONG = 64  # bytes of a string that counts as standing twice
COMPRESSORS: Mapping[str, Callable[[bytes], bytes]] = {
    "zlib, level 9": lambda data: zlib.compress(data, 9),
    "bz2, level 9": lambda data: bz2.compress(data, 9),
    "xz, preset 9e": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
}
WSD = "schedule={use='wsd', warmup='0.05dur', decay='0.2dur', shape='1-sqrt'}"
REST = "{use='adamw', lr=3e-3, betas=[0.9,0.95], weight_decay=0.1}"
MODELS: Mapping[str, list[str]] = {
    "gpt, AdamW, cosine": [],
    "gpt, AdamW, WSD": [WSD],
    "gpt, Muon + AdamW, WSD": [WSD, f"optimizer={{use='muon', lr=0.02, weight_decay=0.01, rest={REST}}}"],
}


class NGrams:
    """Bytes by those before them, longer contexts resting on shorter ones.

    Args:
        text: what is counted.
        order: how many bytes before are looked at.

    Source: Kneser & Ney 1995, "Improved backing-off for m-gram language modeling", interpolated as Chen & Goodman 1999,
    section 2.7, with one discount for each length, n1 / (n1 + 2 n2).
    """

    def __init__(self, text: bytes, order: int) -> None:
        self.order = order
        counts = Counter(text[i : i + order + 1] for i in range(len(text) - order))
        levels = [counts]
        for _ in range(order):  # of shorter ones it counts how many different bytes they follow
            levels.insert(0, Counter(gram[1:] for gram in levels[0]))
        self.levels = []
        for level in levels:
            once, twice = (sum(count == wanted for count in level.values()) for wanted in (1, 2))
            totals: Counter[bytes] = Counter()
            for gram, count in level.items():
                totals[gram[:-1]] += count
            kinds = Counter(gram[:-1] for gram in level)
            self.levels.append((level, totals, kinds, once / (once + 2 * twice) if once else 0.0))

    def chance(self, before: bytes, byte: bytes) -> float:
        """Of a byte after those before it."""
        found = 1 / 256
        for length, (level, totals, kinds, discount) in enumerate(self.levels):
            context = before[len(before) - length :]
            if total := totals.get(context, 0):
                found = (max(level.get(context + byte, 0) - discount, 0) + discount * kinds[context] * found) / total
        return found

    def bits(self, before: bytes, text: bytes) -> list[float]:
        """Of each byte of a text that comes after another."""
        whole = before[-self.order :] + text
        chances = (self.chance(whole[i - self.order : i], whole[i : i + 1]) for i in range(self.order, len(whole)))
        return [-math.log2(chance) for chance in chances]


def stood_before(before: bytes, text: bytes, length: int) -> list[bool]:
    """Of each byte of a text, whether a string of that length that it lies in stood before it."""
    whole, found = before + text, [False] * (len(before) + len(text))
    first: dict[bytes, int] = {}
    for place in range(len(whole) - length + 1):
        if first.setdefault(whole[place : place + length], place) != place:
            found[place : place + length] = [True] * length
    return found[len(before) :]


def of_the_rest(parts: Mapping[str, bytes], order: int) -> Iterator[tuple[str, list[float]]]:
    """What each part costs without what stood before."""
    train = parts["train"]
    again = {part: stood_before(train, parts[part], LONG) for part in PARTS}
    yield "bytes in strings that stood before, %", [100 * sum(again[part]) / len(again[part]) for part in PARTS]
    left = {
        part: bytes(byte for byte, known in zip(parts[part], again[part], strict=True) if not known) for part in PARTS
    }
    yield from by_compressors({"train": train, **left})
    model, means = NGrams(train, order), []
    for part in PARTS:
        bits = zip(model.bits(train, parts[part]), again[part], strict=True)
        means.append(sum(cost for cost, known in bits if not known) / len(left[part]))
    yield f"{order + 1}-grams", means


def by_compressors(parts: Mapping[str, bytes]) -> Iterator[tuple[str, list[float]]]:
    """What each part adds to the training part."""
    for name, compress in COMPRESSORS.items():
        train = parts["train"]
        yield name, [8 * (len(compress(train + parts[p])) - len(compress(train))) / len(parts[p]) for p in PARTS]


def by_ngrams(parts: Mapping[str, bytes], orders: tuple[int, ...]) -> Iterator[tuple[str, list[float]]]:
    """N-grams of several lengths."""
    for order in orders:
        model = NGrams(parts["train"], order)
        assert math.isclose(sum(model.chance(b"statement", bytes([byte])) for byte in range(256)), 1)
        yield f"{order + 1}-grams", [fmean(model.bits(parts["train"], parts[part])) for part in PARTS]


def by_models(quick: bool, only: list[str]) -> Iterator[tuple[str, list[float]]]:
    """The recipes, as a user trains them."""
    plugins = Plugins(without=["reports"])
    for name, changes in MODELS.items():
        if only and name not in only:
            continue
        small = ["data.limit=20000", "data.vocabulary_size=300", "run.duration=4ba", "model.width=32"] if quick else []
        with tempfile.TemporaryDirectory() as folder:
            recipe = load_recipe(RECIPE, ["logger=[]", "run.device=cpu", *changes, *small], plugins)
            figures = launch(recipe, plugins, folder=Path(folder) / "run", say=lambda text: None).metrics
        yield name, [figures[f"{part}.bits_per_byte"] for part in PARTS]


def main() -> None:
    """Print the table, line by line as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few updates on little text, to see that it works")
    parser.add_argument("--only", action="append", default=[], choices=list(MODELS), help="train this model alone")
    args = parser.parse_args()
    text = read_text(None, 20000 if args.quick else None)
    parts = {name: part.encode() for name, part in cut_in_time(text, {"val": 0.1, "test": 0.1}).items()}
    print(f"train {len(parts['train']):,} bytes, val {len(parts['val']):,}, test {len(parts['test']):,}\n")
    print("| learned by | val | test |\n|---|---|---|")
    orders = (2,) if args.quick else (2, 4, 6, 8)
    for rows in (by_compressors(parts), by_ngrams(parts, orders), by_models(args.quick, args.only)):
        for name, (val, test) in rows:
            print(f"| {name} | {val:.3f} | {test:.3f} |", flush=True)
    print("\n| of what did not stand before | val | test |\n|---|---|---|")
    for name, (val, test) in of_the_rest(parts, orders[-1]):
        print(f"| {name} | {val:.3f} | {test:.3f} |", flush=True)


if __name__ == "__main__":
    main()
