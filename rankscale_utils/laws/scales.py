"""Scales on which terms add up and noise is even.

The gap is the distance to the best value that known limits allow: for a rising metric ceiling − value, for a falling
one value − floor. On the scale "gap" a rising metric is −log(gap) and a falling one log(gap), so that better is still
up, or still down; for an entropy with floor 0 it is the logarithm of the value itself.

On the scale "arcsine" a metric between two limits is 2·arcsin √share, its share of the way from the lower to the upper:
the scale on which a mean of many such numbers scatters alike wherever it lies (Bartlett, Biometrics 3, 1947).
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scale = Literal["value", "gap", "arcsine"]
SCALES = ("value", "gap", "arcsine")
SMALLEST_GAP = 1e-12  # nearer to the limit counts as this near
SMALLEST_SHARE = 1e-9  # likewise, for the arcsine's slope


def gap(values: ArrayLike, rising: bool, limits: tuple[float, float]) -> NDArray:
    """Distance to the best value that the limits allow; negative beyond it."""
    values = np.asarray(values, float)
    return limits[1] - values if rising else values - limits[0]


def to_scale(scale: Scale, values: ArrayLike, rising: bool, limits: tuple[float, float]) -> NDArray:
    """Values as numbers on the scale."""
    if scale == "value":
        return np.asarray(values, float)
    if scale == "arcsine":
        return 2 * np.arcsin(np.sqrt(_share(values, limits)))
    logarithm = np.log(np.maximum(gap(values, rising, limits), SMALLEST_GAP))
    return -logarithm if rising else logarithm


def from_scale(scale: Scale, numbers: ArrayLike, rising: bool, limits: tuple[float, float]) -> NDArray:
    """Values from numbers on the scale, the inverse of `to_scale`."""
    numbers = np.asarray(numbers, float)
    if scale == "value":
        return numbers
    if scale == "arcsine":
        return limits[0] + (limits[1] - limits[0]) * np.sin(np.clip(numbers, 0, np.pi) / 2) ** 2
    return limits[1] - np.exp(-numbers) if rising else limits[0] + np.exp(np.minimum(numbers, 700.0))


def slope(scale: Scale, values: ArrayLike, rising: bool, limits: tuple[float, float]) -> NDArray:
    """How fast the scale moves with the value: its derivative at `values`."""
    if scale == "value":
        return np.ones_like(np.asarray(values, float))
    if scale == "arcsine":
        share = np.clip(_share(values, limits), SMALLEST_SHARE, 1 - SMALLEST_SHARE)
        return 1 / np.sqrt(share * (1 - share)) / (limits[1] - limits[0])
    return 1 / np.maximum(gap(values, rising, limits), SMALLEST_GAP)


def _share(values: ArrayLike, limits: tuple[float, float]) -> NDArray:
    return np.clip((np.asarray(values, float) - limits[0]) / (limits[1] - limits[0]), 0.0, 1.0)
