"""The settings of ``[ensemble]`` that are the core's own; the signature is a schema, as in `tables`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from trainkit.settings import Nested, PositiveInt


def ensemble(
    *,
    calibrate: Literal["temperature", "none"] = "temperature",
    executor: Annotated[Any, Nested("executor", by_name=True)] = {"use": "auto"},  # noqa: B006
    test: bool = True,
    longer: bool = False,
    bootstrap: PositiveInt = 1000,
    bins: PositiveInt = 15,
) -> None:
    """What every ensemble can be given.

    Args:
        calibrate: temperature divides what the ensemble gives by one number, fitted on validation samples and shrunk
            towards 1; none leaves it.
        executor: where members are trained.
        test: measure the ensemble and its members on the test samples, once, when everything is chosen.
        longer: also train one run for as many updates as all members together, to compare with.
        bootstrap: how often samples are drawn anew for the intervals of the report.
        bins: bins of equal width of the calibration error.
    """
