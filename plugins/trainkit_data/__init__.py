"""Data sets and augmentations. Listing them imports neither torch nor scikit-learn nor pillow."""

from __future__ import annotations

from trainkit import Component, hookimpl
from trainkit_data.changes import cutmix, cutout, flip, mixup, random_crop
from trainkit_data.files import arrays, csv, image_folder
from trainkit_data.published import cifar10, cifar100, fashion_mnist, mnist
from trainkit_data.shipped import breast_cancer, diabetes, digits, synthetic, wine
from trainkit_data.wrapped import one_against_rest, subset

_SKLEARN = {"sklearn": "pip install scikit-learn"}
_PILLOW = {"PIL": "pip install pillow"}
_OF_THE_USER = {"builds_from_its_example": "it reads files of the user's own"}
_DOWNLOADED = {"builds_from_its_example": "it is downloaded"}
_MIXES = {"mixes": True}
_BY_PLACE = {
    "the_order_in_a_batch_does_not_matter": "the partner of a sample is drawn by place, as published: any sample "
    "of the batch, itself included"
}


@hookimpl
def trainkit_components() -> list[Component]:
    """List the data sets and augmentations."""
    return [
        Component("data", digits, example={"val": 0.1, "test": 0.2}, libraries=_SKLEARN),
        Component("data", wine, example={"val": 0.15}, libraries=_SKLEARN),
        Component("data", breast_cancer, example={"task": "binary"}, libraries=_SKLEARN),
        Component("data", diabetes, example={"standardise_targets": True}, libraries=_SKLEARN),
        Component("data", synthetic, example={"task": "classification", "samples": 96, "features": [8]}),
        Component(
            "data", csv, example={"path": "table.csv", "target": "label", "missing": "mean"}, exempt=_OF_THE_USER
        ),
        Component("data", arrays, example={"path": "arrays.npz"}, exempt=_OF_THE_USER),
        Component("data", image_folder, example={"path": "images", "size": 32}, libraries=_PILLOW, exempt=_OF_THE_USER),
        Component("data", cifar10, example={"val": 0.1}, exempt=_DOWNLOADED),
        Component("data", cifar100, example={"val": 0.1}, exempt=_DOWNLOADED),
        Component("data", mnist, example={"val": 0.1}, exempt=_DOWNLOADED),
        Component("data", fashion_mnist, example={"val": 0.1}, exempt=_DOWNLOADED),
        Component(
            "data",
            one_against_rest,
            example={
                "of": {"use": "synthetic", "samples": 96, "features": [8], "classes": 4},
                "positive": ["class 1"],
            },
        ),
        Component(
            "data",
            subset,
            example={"of": {"use": "synthetic", "samples": 96, "features": [8], "classes": 4}, "without": ["class 0"]},
        ),
        Component("augmentation", random_crop, example={"padding": 4, "mode": "reflect"}),
        Component("augmentation", flip, example={"probability": 0.5, "alternate": True}),
        Component("augmentation", cutout, example={"size": 8}),
        Component("augmentation", mixup, example={"alpha": 0.2}, capabilities=_MIXES, exempt=_BY_PLACE),
        Component(
            "augmentation",
            cutmix,
            example={"alpha": 1.0, "probability": 0.5},
            capabilities=_MIXES,
            exempt=_BY_PLACE,
        ),
    ]
