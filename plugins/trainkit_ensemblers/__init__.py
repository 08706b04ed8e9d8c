"""Ensemblers: one model of several. Listing them does not import torch."""

from __future__ import annotations

from trainkit import Component, hookimpl


@hookimpl
def trainkit_components() -> list[Component]:
    return []
