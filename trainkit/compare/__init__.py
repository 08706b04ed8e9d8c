"""``trainkit compare``: runs beside each other, as tables, a figure and a page, with what their differences prove."""

from __future__ import annotations
