"""How a person reads a point: short names of settings, and values without quotes and braces."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

_PLACE = re.compile(r"#\d+")


def value_text(value: Any) -> str:
    """A value as a table or a line shows it; a component as its name, with what is fixed beside it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and isinstance(value.get("use"), str):
        fixed = ", ".join(f"{key}={value_text(held)}" for key, held in value.items() if key != "use")
        return f"{value['use']}({fixed})" if fixed else value["use"]
    return json.dumps(value)


def short_names(settings: Iterable[str]) -> dict[str, str]:
    """The shortest names by which settings can be told apart: ``{"optimizer#0.lr": "lr", "schedule.use": "schedule"}``.

    What ranges inside several choices vary under one name is one thing, as only one of them counts at a time.
    """
    whole = {name: _PLACE.sub("", name) for name in settings}
    taken = Counter(_short(name) for name in set(whole.values()))
    return {name: _short(full) if taken[_short(full)] == 1 else full for name, full in whole.items()}


def point_text(point: Mapping[str, Any], longest: int = 0) -> str:
    """A point on one short line: ``lr 0.0123, optimizer adamw``."""
    names = short_names(point)
    text = ", ".join(f"{names[name]} {value_text(value)}" for name, value in point.items())
    return text if not longest or len(text) <= longest else text[: longest - 3] + "..."


def _short(name: str) -> str:
    keys = name.split(".")
    if keys[-1] == "use" and len(keys) > 1:
        keys = keys[:-1]
    return ".".join(keys[-2:] if keys[-1].isdigit() else keys[-1:])
