"""Data sets and augmentations. Listing them imports neither torch nor scikit-learn nor pillow."""

from __future__ import annotations

from trainkit import Component, hookimpl
from trainkit_data.shipped import breast_cancer, diabetes, digits, synthetic, wine

_SKLEARN = {"sklearn": "pip install scikit-learn"}


@hookimpl
def trainkit_components() -> list[Component]:
    """List the data sets and augmentations."""
    return [
        Component("data", digits, example={"val": 0.1, "test": 0.2}, libraries=_SKLEARN),
        Component("data", wine, example={"val": 0.15}, libraries=_SKLEARN),
        Component("data", breast_cancer, example={"task": "binary"}, libraries=_SKLEARN),
        Component("data", diabetes, example={"standardise_targets": True}, libraries=_SKLEARN),
        Component("data", synthetic, example={"task": "classification", "samples": 96, "features": [8]}),
    ]
