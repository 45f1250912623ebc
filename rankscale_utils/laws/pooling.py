"""Exponents pooled over series: what a short ladder cannot tell alone, the other series and a stated prior tell.

The size exponent of every series scatters around one mean, for which there is a prior. On a grid of shapes the rest of
a law is linear, so the likelihood of every shape is exact and a thousand resamples cost a few matrix products.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .fitting import Fit, check_limits
from .law import Curve, Law
from .problem import SMALLEST, Problem
from .rows import measurements

RESAMPLES_TOGETHER = 250  # resamples that are projected together: their arrays stay small
STEADY = 0.1  # degrees of freedom that the checkpoints' noise lends to the runs'
LEAST = -700.0  # logarithm of what counts as nothing beside the most likely
PRIOR_LED = 0.8  # an exponent whose spread is still this share of the prior's has learnt little from the data


@dataclass(frozen=True)
class Prior:
    """Normal prior of the size exponent's mean over series, and how far a series lies from that mean.

    mean: 0.53, the exponent of contrastive entropy on non-embedding parameters, the same on two collections (arXiv
    2403.18684). sd: a 95% interval from 0.24 to 0.82, which also holds the 0.35 of language models (arXiv
    2404.10102). between: standard deviation of a series' exponent around the mean.
    """

    mean: float = 0.53
    sd: float = 0.15
    between: float = 0.10

    def __post_init__(self):
        """Raise ValueError where a number is not positive."""
        for name, number in vars(self).items():
            if not 0 < number < np.inf:
                raise ValueError(f"{name} is {number}; give a positive number")

    def on_another_size(self, growth: float) -> "Prior":
        """The same prior when N counts something that grows as non-embedding size^(1/growth)."""
        return replace(self, mean=self.mean * growth, sd=self.sd * growth, between=self.between * growth)


def pool(
    laws: Sequence[Law],
    tables: Sequence[pd.DataFrame],
    prior: Prior = Prior(),
    *,
    size: str = "params_non_embedding",
    exposure: str = "exposure",
) -> list[Fit]:
    """Fit one form to several series at once, their size exponents pooled; returns a Fit for each series.

    laws: the same form for each series, with the series' own limits. tables: as in `fit`. Squared residuals on the
    laws' scale; the status of a fit whose exponent the data hardly moved is "led by the prior".
    Raises ValueError as `fit` does, and where the form has no size.
    """
    if any("N" not in law.axes for law in laws):
        raise ValueError("a data law has no size exponent to pool; fit it to its own series")
    data = [measurements(table, size, exposure) for table in tables]
    for law, rows in zip(laws, data, strict=True):
        check_limits(law, rows, law.scale)
    grids = [Grid.of(law, rows) for law, rows in zip(laws, data, strict=True)]
    posteriors = _posteriors(grids, [grid.z[None] for grid in grids], prior, None)
    widest = PRIOR_LED * np.hypot(prior.sd, prior.between)
    return [
        squares_fit(law, rows, coefficients[0], "led by the prior" if spread[0] > widest else "converged")
        for law, rows, (coefficients, spread) in zip(laws, data, posteriors, strict=True)
    ]


def refit_pooled(
    grids: Sequence["Grid"], targets: Sequence[NDArray], prior: Prior, seed: int | None = None
) -> list[NDArray]:
    """Natural coefficients (B, k) of every series for other numbers (B, rows), which are on the laws' scale.

    seed: with one, the prior too is drawn anew for each of the B, as a prior that never moved would make resamples look
    surer than it is (randomise, then optimise: Bardsley et al., SIAM J. Sci. Comput. 36, 2014).
    """
    moves = None if seed is None else _moves(grids, len(targets[0]), prior, seed)
    chunks: list[list[NDArray]] = [[] for _ in grids]
    for first in range(0, len(targets[0]), RESAMPLES_TOGETHER):
        chunk = [target[first : first + RESAMPLES_TOGETHER] for target in targets]
        moved = None if moves is None else [move[first : first + RESAMPLES_TOGETHER] for move in moves]
        for coefficients, (refitted, _) in zip(chunks, _posteriors(grids, chunk, prior, moved), strict=True):
            coefficients.append(refitted)
    return [np.concatenate(coefficients) for coefficients in chunks]


def _moves(grids: Sequence["Grid"], count: int, prior: Prior, seed: int) -> list[NDArray]:
    """Where each series' exponent is expected (count,) less the prior's mean: one draw for all, one for its runs."""
    rng = np.random.default_rng([seed, 1])
    common = rng.normal(scale=prior.sd, size=count)
    own = {names: rng.normal(scale=prior.between, size=count) for names in dict.fromkeys(grid.names for grid in grids)}
    return [common + own[grid.names] for grid in grids]


def seeds(fits: Sequence[Fit], seed: int) -> list[list[int]]:
    """One seed for each set of runs, so that series of the same runs move together and others apart."""
    sets = [tuple(sorted(fit.data["run"].unique())) for fit in fits]
    order = {runs: index for index, runs in enumerate(dict.fromkeys(sets))}
    return [[seed, order[runs]] for runs in sets]


@dataclass(frozen=True)
class Grid:
    """One series on the grid of its law's shapes."""

    problem: Problem
    names: tuple[str, ...]
    runs: NDArray
    shapes: NDArray

    @classmethod
    def of(cls, law: Law, data: pd.DataFrame) -> "Grid":
        """The series with columns run, N, D and value."""
        problem = Problem.of(law, data, law.scale)
        names, runs = np.unique(data["run"], return_inverse=True)
        return cls(problem, tuple(names), runs, law.shapes())

    @cached_property
    def z(self) -> NDArray:
        """Measured numbers (n,) on the law's scale."""
        return self.problem.law.to_scale(self.problem.value)

    @cached_property
    def alphas(self) -> NDArray:
        """The exponents on the grid (a,), which is alpha first: (a × shapes of each, s)."""
        return np.unique(self.shapes[:, 0])

    @cached_property
    def maps(self) -> tuple[NDArray, NDArray, NDArray]:
        """What numbers (B, n) are multiplied with, each (…, n, choices).

        Their projections on every choice's orthonormal design; the amplitudes there; and, by run, the sum of residuals
        over the root of the run's rows.
        """
        q, r = np.linalg.qr(self.design(self.shapes))  # (choices, n, l), (choices, l, l)
        to_linear = np.linalg.inv(r + 1e-12 * np.abs(r).max() * np.eye(r.shape[-1]))
        projections = q.transpose(2, 1, 0)
        amplitudes = np.einsum("ctl,cnl->tnc", to_linear[:, 1:], q, optimize=True)
        roots = np.sqrt(np.bincount(self.runs))
        of_run = np.eye(len(roots))[self.runs] / roots  # (n, runs)
        by_run = np.einsum("cml,mr,cnl->rnc", q, of_run, q, optimize=True)
        means = of_run.T[:, :, None] - by_run
        return tuple(np.ascontiguousarray(maps) for maps in (projections, amplitudes, means))

    def design(self, shapes: NDArray) -> NDArray:
        """Columns (choices, n, l) that the linear coefficients multiply."""
        law = self.problem.law
        terms = law.sign * law.terms(shapes, self.problem.axes["N"], self.problem.axes["D"])
        return np.concatenate([np.ones_like(terms[:, :1]), terms], axis=1).swapaxes(1, 2)

    def evidence(self, z: NDArray) -> NDArray:
        """Logarithm (B, choices) of how well each shape explains numbers z (B, n); −inf where it is impossible.

        Noise between runs and within a run are unknown and integrated out, each with its own degrees of freedom, so
        that checkpoints of one run do not count as independent (Student's likelihood; Gelman et al., Bayesian Data
        Analysis, 2013, section 3.2). A trace of the checkpoints' noise steadies the runs' where these are few. A shape
        is impossible where a term turns negative, unless that is so of all.
        """
        projections, amplitudes, means = self.maps
        possible = np.logical_and.reduce([z @ amplitude > 0 for amplitude in amplitudes])
        possible |= ~possible.any(1, keepdims=True)
        between, runs = _sum_of_squares(z, means), len(means)
        trace, free = (1e-9 * np.var(z, axis=1) + 1e-24)[:, None], z.shape[1] - runs
        steady, weights = 0.0, 0.0
        if free:
            losses = np.maximum((z**2).sum(1)[:, None] - _sum_of_squares(z, projections), 0.0)
            inside = np.where(possible, np.maximum(losses - between, 0), np.inf)
            steady = STEADY * inside.min(1, keepdims=True) / max(free - 1, 1)
            weights = -max(free - 1, 1) / 2 * np.log(inside + max(free - 1, 1) * trace)
        weights = weights - (max(runs - 2, 0) + STEADY) / 2 * np.log(between + steady + trace)
        return np.where(possible, weights, -np.inf)

    def coefficients(self, z: NDArray, shapes: NDArray) -> NDArray:
        """Natural coefficients (B, k) at shapes (B, s): least squares, amplitudes kept positive."""
        design = self.design(shapes)  # (B, n, l)
        transposed = design.swapaxes(1, 2)
        linear = np.linalg.solve(transposed @ design + 1e-12 * np.eye(design.shape[2]), transposed @ z[..., None])
        linear = linear[..., 0]
        floor = SMALLEST * self.problem.spread
        held = linear[:, 1:] < floor
        linear[:, 1:] = np.maximum(linear[:, 1:], floor)
        level = (z[..., None] - design[..., 1:] * linear[:, None, 1:]).sum(-1) - (design.shape[2] - 2) * z
        linear[:, 0] = np.where(held.any(1), level.mean(1), linear[:, 0])
        law = self.problem.law
        return law.in_units(law.assemble(shapes, linear), 1 / self.problem.units)


def _sum_of_squares(z: NDArray, maps: NDArray) -> NDArray:
    """Return Σ (z @ map)², (B, choices), for numbers z (B, n) and maps (…, n, choices), one map after the other."""
    total = 0.0
    for matrix in maps:
        product = z @ matrix
        total = total + np.square(product, out=product)
    return total


def _posteriors(
    grids: Sequence[Grid], targets: Sequence[NDArray], prior: Prior, moves: Sequence[NDArray] | None
) -> list[tuple[NDArray, NDArray]]:
    """Each series' coefficients (B, k), and the standard deviation (B,) of its exponent."""
    likelihoods, evidence = [], []
    for grid, z in zip(grids, targets, strict=True):
        weights = grid.evidence(z)
        weights = (weights - weights.max(1, keepdims=True)).reshape(len(z), len(grid.alphas), -1)
        peak = weights.max(2, initial=LEAST)
        likelihoods.append(np.exp(weights - peak[:, :, None]))  # of shapes with the same exponent
        evidence.append(peak + _log(likelihoods[-1].sum(2)))
    pooled, posteriors = _pooled(grids, evidence, prior, moves), []
    for grid, z, likelihood, exponents in zip(grids, targets, likelihoods, pooled, strict=True):
        share = exponents / np.maximum(likelihood.sum(2), np.finfo(float).tiny)
        shares = (likelihood * share[:, :, None]).reshape(len(z), -1)
        shapes = shares @ grid.shapes
        spread = np.sqrt(np.maximum(shares @ grid.shapes[:, 0] ** 2 - shapes[:, 0] ** 2, 0))
        posteriors.append((grid.coefficients(z, shapes), spread))
    return posteriors


def _log(positive: NDArray) -> NDArray:
    """Return the logarithm, and `LEAST` of nothing."""
    return np.log(np.maximum(positive, np.exp(LEAST)))


def _pooled(
    grids: Sequence[Grid], evidence: Sequence[NDArray], prior: Prior, moves: Sequence[NDArray] | None
) -> list[NDArray]:
    """Posterior (B, a) of each series' exponent: its own log evidence (B, a), that of other runs, and the prior.

    Metrics of the same runs are near copies: to others they count as one series, and to each other not at all.
    """
    alphas = grids[0].alphas
    widths = np.gradient(alphas)
    log_prior = -0.5 * ((alphas - prior.mean) / prior.sd) ** 2 + np.log(widths)
    around = [_around(alphas, widths, move, prior.between) for move in moves or [np.zeros(1)] * len(grids)]
    copies = Counter(grid.names for grid in grids)
    shares: dict[tuple[str, ...], NDArray | float] = dict.fromkeys(copies, 0.0)
    for grid, own, near in zip(grids, evidence, around, strict=True):
        peak = own.max(1, keepdims=True)
        of_mean = _log((np.exp(own - peak)[:, None] @ near)[:, 0]) + peak
        shares[grid.names] = shares[grid.names] + of_mean / copies[grid.names]
    posteriors = []
    for grid, own, near in zip(grids, evidence, around, strict=True):
        others = log_prior + sum((share for names, share in shares.items() if names != grid.names), 0.0)
        others = np.broadcast_to(others, own.shape)
        expected = (near @ np.exp(others - others.max(1, keepdims=True))[:, :, None])[:, :, 0]
        posterior = own + _log(expected)
        posterior = np.exp(posterior - posterior.max(1, keepdims=True))
        posteriors.append(posterior / posterior.sum(1, keepdims=True))
    return posteriors


def _around(alphas: NDArray, widths: NDArray, moves: NDArray, between: float) -> NDArray:
    """Probability (B, a, a) of an exponent given the mean, which is moved by `moves` (B,)."""
    near = -0.5 * ((alphas[:, None] - alphas - moves[:, None, None]) / between) ** 2 + np.log(widths)[:, None]
    near = np.exp(near - near.max(1, keepdims=True))  # a narrow prior leaves nothing else of the likeliest
    return near / near.sum(1, keepdims=True)


def squares_fit(law: Curve, data: pd.DataFrame, coefficients: NDArray, status: str) -> Fit:
    """The Fit of pooled coefficients (k,) to the columns run, N, D and value: squared residuals on the law's scale."""
    numbers = law.to_scale(data["value"].to_numpy(float))
    residuals = numbers - law.predict(coefficients, data["N"], data["D"], scale=law.scale)
    return Fit.of(law, data, coefficients, status, residuals=residuals, scale=law.scale, noise=np.inf, pooled=True)
