"""Writes plugins/trainkit_kozistr/table.py from the signatures of the installed library.

python tests/plugins/kozistr/make_table.py
"""

from __future__ import annotations

import importlib.metadata
import inspect
import textwrap
import types
import typing
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parents[3] / "plugins" / "trainkit_kozistr" / "table.py"
# Turning them would make the run wrong, or nothing but the library's own tests asks for them.
LEFT_OUT = ("maximize", "differentiable", "capturable", "fused")
HEAD = '''\
"""The optimizers of the library as data: names, classes and signatures. Written by a program, not by hand.

``python tests/plugins/kozistr/make_table.py`` writes this file from the signatures of the installed library; run it
again for another version. A test in tests/plugins/kozistr makes the text anew and fails where it is not this one. It is
a text in a module, which Python keeps compiled, so that ``trainkit list`` reads it in half a millisecond; from TOML it
would be ten. ``entries`` makes typed factories of it.

A line that begins at the margin is ``name Class: what it does``; the indented ones hold its settings, each as ``name:
type = default``. In types ``?`` stands for "or unset", ``*2`` for a tuple of two, ``...`` for one of any length, ``|``
between the words of a choice.
"""

VERSION = "{version}"
OPTIMIZERS = """\\
'''


def type_text(annotation: Any, default: Any) -> str | None:
    """The annotation in the table's words; nothing for a type that a setting cannot have."""
    parts = (
        typing.get_args(annotation)
        if typing.get_origin(annotation) in (typing.Union, types.UnionType)
        else (annotation,)
    )
    names = [
        getattr(part, "__name__", str(part)) for part in parts if part not in (type(None), inspect.Parameter.empty)
    ]
    unset = "?" if type(None) in parts else ""
    if names in (["float", "Tensor"], ["float"]):
        return f"float{unset}"
    if names in (["int"], ["bool"], ["str"]):
        return names[0] + unset
    if typing.get_origin(parts[0]) is typing.Literal:
        return "|".join(typing.get_args(parts[0])) + unset
    if isinstance(default, str) and "str" in names:
        return "str"
    if isinstance(default, tuple) and default and all(type(item) in (int, float) for item in default):
        kind = "int" if all(type(item) is int for item in default) else "float"
        return (
            f"{kind}..."
            if len(typing.get_args(parts[0])) == 2 and Ellipsis in typing.get_args(parts[0])
            else (f"{kind}*{len(default)}")
        )
    return None


def settings_text(wrapped: Any) -> list[str]:
    """The settings of one optimizer, each as ``name: type = default``."""
    settings = []
    for parameter in list(inspect.signature(wrapped).parameters.values())[1:]:
        kept = parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        kind = type_text(parameter.annotation, parameter.default)
        if kept and kind is not None and parameter.name not in LEFT_OUT:
            default = parameter.default
            if default is inspect.Parameter.empty:
                settings.append(f"{parameter.name}: {kind}")
                continue
            if kind.startswith("float") and type(default) is int:
                default = float(default)
            if kind == "int":  # one of an enumeration
                default = int(default)
            settings.append(f"{parameter.name}: {kind} = {default!r}")
    return settings


def table_text() -> str:
    """The whole of table.py."""
    import pytorch_optimizer

    lines = [HEAD.format(version=importlib.metadata.version("pytorch_optimizer"))]
    for name in sorted(pytorch_optimizer.get_supported_optimizers()):
        wrapped = pytorch_optimizer.load_optimizer(name)
        ours = wrapped.__module__.startswith("pytorch_optimizer")
        first = " ".join((inspect.getdoc(wrapped) or "").split("\n\n")[0].split()) if ours else "The one of torch."
        lines += [
            f"{line}\n"
            for line in textwrap.wrap(f"{name} {wrapped.__name__}: {first}", 116, break_on_hyphens=False)[:1]
        ]
        lines += [
            f"    {line}\n" for line in textwrap.wrap("; ".join(settings_text(wrapped)), 112, break_on_hyphens=False)
        ]
    return "".join(lines) + '"""\n'


if __name__ == "__main__":
    TABLE.write_text(table_text(), encoding="utf-8")
