"""Fit a law to measurements: variable projection to start, then robust least squares."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import OptimizeResult, least_squares

from rankscale_utils.machine.files import digest

from .forms import Curve, Law
from .rows import measurements
from .scales import SCALES, Scale, gap, slope

LARGEST_CONDITION = 1e6  # of the Jacobian with columns of length one; beyond it coefficients trade off freely
DISTINCT_NEEDED = 3  # sizes, and exposures: fewer cannot show how a curve bends

SMALLEST = 1e-3  # an amplitude at the start, in units of the values' spread: positive, so that its logarithm exists


@dataclass(frozen=True)
class Fit:
    """A fitted law and what it was fitted to.

    coefficients: by natural name, N and D in the table's own units. status: "converged", "at a bound: <coefficients>",
    "unidentified: <why>" or, where pooled, "led by the prior". objective: half the sum of Huber's loss. residuals:
    (rows,) measured − fitted, on `scale`, in the order of `data`; r2 and rmse are on that scale too. noise: where
    Huber's loss turns from squared to absolute. data: the columns run, N, D, value that were used; data_sha256 is their
    hash. pooled: whether the size exponent was pooled over series (see `pooling`).
    """

    law: Curve
    coefficients: dict[str, float]
    status: str
    scale: Scale
    noise: float
    objective: float
    r2: float
    rmse: float
    residuals: NDArray
    data: pd.DataFrame
    data_sha256: str
    pooled: bool = False

    @property
    def vector(self) -> NDArray:
        """Coefficients (k,) in the law's order."""
        return np.array([self.coefficients[name] for name in self.law.coefficient_names])

    @property
    def rows(self) -> int:
        """Number of measurements."""
        return len(self.data)

    @property
    def runs(self) -> int:
        """Number of independent runs."""
        return self.data["run"].nunique()

    def predict(self, N: ArrayLike = 1.0, D: ArrayLike = 1.0) -> NDArray:
        """Fitted values at sizes N and exposures D, each (n,) or one number; returns (n,)."""
        return self.law.predict(self.vector, N, D)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the rows, at full precision, ready for JSON (an infinite limit becomes null)."""
        return {
            "law": self.law.name,
            "law_scale": self.law.scale,
            "rising": self.law.rising,
            "limits": [limit if np.isfinite(limit) else None for limit in self.law.limits],
            "coefficients": self.coefficients,
            "status": self.status,
            "scale": self.scale,
            "pooled": self.pooled,
            "noise": self.noise if np.isfinite(self.noise) else None,
            "objective": self.objective,
            "r2": self.r2,
            "rmse": self.rmse,
            "runs": self.runs,
            "rows": self.rows,
            "data_sha256": self.data_sha256,
        }


@dataclass(frozen=True)
class Problem:
    """A law, the axes it is fitted on and the scale of its residuals; optimisers work on this.

    Sizes and exposures are counted in units of their geometric mean, which keeps amplitudes and exponents apart.
    """

    law: Law
    N: NDArray
    D: NDArray
    value: NDArray
    scale: Scale

    @classmethod
    def of(cls, law: Law, data: pd.DataFrame, scale: Scale) -> "Problem":
        """The problem of fitting `law` to the columns N, D and value."""
        return cls(law, *(data[name].to_numpy(float) for name in ("N", "D", "value")), scale)

    @cached_property
    def units(self) -> NDArray:
        """Geometric mean of each axis (axes,)."""
        return np.exp([np.log(getattr(self, axis)).mean() for axis in self.law.axes])

    @cached_property
    def axes(self) -> dict[str, NDArray]:
        """Sizes and exposures (n,), the law's axes in their units."""
        units = dict(zip(self.law.axes, self.units, strict=True))
        return {axis: getattr(self, axis) / units.get(axis, 1.0) for axis in ("N", "D")}

    @cached_property
    def spread(self) -> float:
        """How far the values reach on the law's scale, or their size where they are all the same."""
        numbers = self.law.to_scale(self.value)
        return float(np.ptp(numbers) or np.abs(numbers).max() or 1.0)

    @cached_property
    def bounds(self) -> tuple[NDArray, NDArray]:
        """Lowest and highest working coefficients, each (k,)."""
        return self.law.working_bounds(self.spread)

    @cached_property
    def nearest(self) -> float:
        """A hundredth of the smallest measured gap: a law that comes nearer to the limit, or passes it, counts so."""
        return 1e-2 * float(gap(self.value, self.law.rising, self.law.limits).min())

    def on_scale(self, values: NDArray) -> NDArray:
        """Values as residuals see them."""
        if self.scale == "gap":
            limit = self.law.limits[1] - self.nearest if self.law.rising else self.law.limits[0] + self.nearest
            values = np.minimum(values, limit) if self.law.rising else np.maximum(values, limit)
        return self.law.to_scale(values, self.scale)

    def predict(self, working: NDArray) -> NDArray:
        """Predictions (..., n) on the scale, for working coefficients (..., k)."""
        coefficients = self.law.from_working(working)
        if self.scale == self.law.scale:
            return self.law.predict(coefficients, **self.axes, scale=self.scale)
        return self.on_scale(self.law.predict(coefficients, **self.axes))

    def jacobian(self, working: NDArray, predicted: NDArray | None = None) -> NDArray:
        """Derivatives (..., n, k) of `predict`; predicted: what it returned, where that is known already."""
        coefficients = self.law.from_working(working)
        if self.scale == self.law.scale:
            return self.law.jacobian(coefficients, **self.axes, scale=self.scale)
        derivatives = self.law.jacobian(coefficients, **self.axes)
        values = self.law.from_scale(self.predict(working) if predicted is None else predicted, self.scale)
        return derivatives * slope(self.scale, values, self.law.rising, self.law.limits)[..., None]

    def to_working(self, coefficients: NDArray) -> NDArray:
        """Working coefficients in the problem's units, from natural ones in the table's."""
        return self.law.to_working(self.law.in_units(coefficients, self.units))

    def from_working(self, working: NDArray) -> NDArray:
        """Natural coefficients in the table's units."""
        return self.law.in_units(self.law.from_working(working), 1 / self.units)

    def starts(self) -> NDArray:
        """Working coefficients (starts, k) of the variable projection, best first, strictly inside the bounds."""
        weights = slope(self.scale, self.value, self.law.rising, self.law.limits)
        weights /= slope(self.law.scale, self.value, self.law.rising, self.law.limits)
        starts = variable_projection(self.law, **self.axes, y=self.law.to_scale(self.value), weights=weights**2)
        low, high = self.bounds
        margin = 1e-3 * np.minimum(high - low, np.r_[self.spread, np.ones(len(low) - 1)])
        return np.clip(self.law.to_working(starts), low + margin, high - margin)

    def start(self) -> NDArray:
        """The best start (k,)."""
        return self.starts()[0]


def fit(
    law: Law,
    table: pd.DataFrame,
    *,
    size: str = "params_non_embedding",
    exposure: str = "exposure",
    scale: Scale = "value",
    noise: float | None = None,
) -> Fit:
    """Fit a law to one objective's, metric's and collection's measurements.

    table: columns run (id of an independent run), `size`, `exposure` and value. scale: of the residuals (see `scales`).
    noise: where Huber's loss turns from squared to absolute, on that scale (None: 1.345 robust standard
    deviations of the start's residuals; 1e-3 on logarithms is the objective of arXiv 2203.15556 eq. 3).
    Raises ValueError where the table cannot be fitted at all; a law that the table cannot identify is a status.
    """
    if noise is not None and not noise > 0:
        raise ValueError(f"noise is {noise}; give a positive number on the residuals' scale, or None to estimate it")
    data = measurements(table, size, exposure)
    check_limits(law, data, scale)
    problem = Problem.of(law, data, scale)
    y, starts = problem.on_scale(problem.value), problem.starts()
    if noise is None:
        noise = _noise(y - problem.predict(starts[0]), y, starts.shape[1])
    found = min((_descend(problem, y, start, noise) for start in starts), key=lambda found: found.cost)
    coefficients = problem.from_working(found.x)
    return Fit(
        law=law,
        coefficients=dict(zip(law.coefficient_names, coefficients.tolist(), strict=True)),
        status=_status(problem, found.x, found.success),
        scale=scale,
        noise=float(noise),
        objective=float(found.cost),
        r2=float(1 - (found.fun**2).sum() / max(((y - y.mean()) ** 2).sum(), np.finfo(float).tiny)),
        rmse=float(np.sqrt((found.fun**2).mean())),
        residuals=-found.fun,
        data=data,
        data_sha256=digest(data.sort_values(["run", "N", "D"]).to_csv(index=False)),
    )


def _descend(problem: Problem, y: NDArray, start: NDArray, noise: float) -> OptimizeResult:
    """Minimise Huber's loss from a start (k,)."""
    return least_squares(
        lambda working: problem.predict(working) - y,
        start,
        problem.jacobian,
        bounds=problem.bounds,
        loss="huber",
        f_scale=noise,
        x_scale="jac",
        xtol=1e-12,
        ftol=1e-14,
        gtol=1e-14,
        max_nfev=500,
    )


def check_limits(law: Law, data: pd.DataFrame, scale: Scale) -> None:
    """On the scale of the gap a value at the limit or beyond has no logarithm."""
    if scale not in SCALES:
        raise ValueError(f"scale is {scale!r}; use 'value' or 'gap'")
    beyond = gap(data["value"], law.rising, law.limits) <= 0
    if "gap" in (scale, law.scale) and beyond.any():
        value, run = data.loc[beyond, ["value", "run"]].iloc[0]
        limit = law.limits[1] if law.rising else law.limits[0]
        raise ValueError(f"value is {value} in run {run!r}, not short of the limit {limit}; correct one of them")


def _noise(residuals: NDArray, y: NDArray, coefficients: int) -> float:
    """1.345 robust standard deviations (95% efficient where noise is Gaussian), and not below a trace of the spread."""
    freedom = len(y) / max(len(y) - coefficients, 1)
    return 1.345 * max(1.4826 * np.median(np.abs(residuals)) * np.sqrt(freedom), 1e-4 * y.std(), 1e-12)


def _status(problem: Problem, working: NDArray, settled: bool) -> str:
    """Say whether the coefficients can be believed."""
    for axis, word in (("N", "sizes"), ("D", "exposures")):
        distinct = len(np.unique(getattr(problem, axis)))
        if axis in problem.law.axes and distinct < DISTINCT_NEEDED:
            return f"unidentified: {distinct} distinct {word}, {DISTINCT_NEEDED} needed"
    if not settled:
        return "unidentified: the optimiser did not settle"
    low, high = problem.bounds
    near = 1e-3 * np.r_[problem.spread, np.ones(len(low) - 1)]
    bound = (working - low < near) | (high - working < near)
    if bound.any():
        return "at a bound: " + ", ".join(np.array(problem.law.coefficient_names)[bound])
    jacobian = problem.jacobian(working)
    if np.linalg.cond(jacobian / np.linalg.norm(jacobian, axis=0)) > LARGEST_CONDITION:
        return "unidentified: the coefficients cannot be told apart"
    return "converged"


def variable_projection(law: Law, N: NDArray, D: NDArray, y: NDArray, weights: NDArray) -> NDArray:
    """Best coefficients (valleys, k) on a grid of shapes, one of each of the law's valleys, best first.

    Given the shapes, the rest is weighted linear least squares. N, D: (n,) sizes and exposures in units of their
    middle; y: (n,) on the law's scale; weights: (n,). The asymptote is clipped to the law's limits and the amplitudes
    are kept positive, so a start always exists.
    """
    shapes = law.shapes()
    terms = law.sign * law.terms(shapes, N, D)  # (choices, terms, n)
    design = np.concatenate([np.ones_like(terms[:, :1]), terms], axis=1)
    gram, moment = (design * weights) @ design.swapaxes(1, 2), design @ (weights * y)

    linear = _solve(gram, moment)
    linear[:, 0] = np.clip(linear[:, 0], *(law.limits if law.scale == "value" else (-np.inf, np.inf)))
    linear[:, 1:] = _solve(gram[:, 1:, 1:], moment[:, 1:] - gram[:, 1:, 0] * linear[:, :1])
    linear[:, 1:] = np.maximum(linear[:, 1:], SMALLEST * (np.ptp(y) or 1.0))

    losses = np.einsum("ci,cij,cj->c", linear, gram, linear) - 2 * (linear * moment).sum(1)
    order = losses.argsort(kind="stable")
    best = order[np.sort(np.unique(law.valleys(shapes[order]), return_index=True)[1])]
    return law.assemble(shapes[best], linear[best])


def _solve(gram: NDArray, moment: NDArray) -> NDArray:
    """Solve every system, each made just regular enough to have a solution."""
    ridge = 1e-12 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(gram.shape[-1]) + 1e-300
    return np.linalg.solve(gram + ridge, moment[..., None])[..., 0]
