"""What one form of law can be, given a series' runs and what is known of other ladders: its posterior, drawn.

For every noise between runs on a grid the mode is found by Gauss and Newton's method, all together, and the posterior
there is drawn from a Student's t around it, each draw weighed by how much too rare it is (importance sampling). The
mean weight is the form's evidence.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from math import lgamma, log, pi

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from .fitting import Fit
from .known import Known
from .local import Local
from .local_problem import LocalProblem, Noise
from .resampling import Draws
from .series import Series

PRIOR_LED = 0.8  # an exponent whose spread is still this share of the prior's has learnt little from the data
MANY = 10**6  # degrees of freedom: draws of a posterior need no Student's t
NOISES = np.linspace(-2.4, 2.8, 9)  # standard deviations from the median of what is known, at which run noise is tried
FLATTEST = 1e-2  # curvature of the misfit that draws are proposed from: not beyond ten in any θ
UNLIKELY = 5.0  # logarithm by which the evidence of a noise is below the best, that need not be drawn from
FEWEST = 100  # proposals at each noise
TAILS = 6.0  # degrees of freedom of what draws are proposed from
STEPS, SETTLED, STILL = 40, 1e-3, 6  # of the search: most, a step so short ends it, and how many are taken anyway
LONGEST = 2.0  # step in any θ


@dataclass(frozen=True)
class Posterior:
    """Draws of a form, θ (draws, k) with their noise, and the logarithm of the form's evidence."""

    problem: LocalProblem
    theta: NDArray
    noise: Noise
    log_evidence: float

    @cached_property
    def centre(self) -> NDArray:
        """Mean θ (k,)."""
        return self.theta.mean(0)

    @cached_property
    def middle(self) -> Noise:
        """Median noise, each (1,)."""
        return Noise(*(np.median(part, keepdims=True) for part in vars(self.noise).values()))

    @cached_property
    def draws(self) -> Draws:
        """The form as a law of sizes and exposures, with draws of its natural coefficients."""
        series, local, middle = self.problem.series, self.problem.local, self.middle
        law = local.law(series.rising, series.limits)
        data = series.data
        coefficients = self.problem.natural(self.centre)
        fitted = law.predict(coefficients, data["N"], data["D"], scale=series.scale)
        residuals = series.numbers - fitted
        fit = Fit.of(
            law,
            data,
            coefficients,
            "led by the prior" if self.spread >= PRIOR_LED else "converged",
            residuals=residuals,
            scale=series.scale,
            noise=np.inf,
            pooled=True,
            data_sha256=series.data_sha256,
        )
        between, within = (float(sd[0]) for sd in (middle.between, middle.within))
        return Draws(fit, self.problem.natural(self.theta), MANY, between, within if series.share else 0.0)

    def said(self, N: NDArray, D: NDArray) -> NDArray:
        """Numbers (draws, n) on the series' scale at sizes and exposures (n,)."""
        return self.problem.numbers(self.theta, *self.problem.series.away(N, D))

    @cached_property
    def doubts(self) -> tuple[NDArray, NDArray, NDArray]:
        """Standard deviations, each (draws,), on the series' scale.

        Of what a law is wrong by at a size, and at an exposure, a factor e beyond the largest, and of one new run.
        """
        wrong = self.problem.discrepancy(np.exp(self.problem.slopes(self.theta)))
        if "D" in self.problem.local.axes:
            by_exposure = np.maximum(self.noise.drift, wrong[:, 1])
        else:  # a law that knows no exposure says nothing of another one
            belief = self.problem.known.exposure_slope
            by_exposure = np.full(len(wrong), belief.median * np.exp(belief.spread))
        return wrong[:, 0], by_exposure, np.hypot(self.noise.between, self.noise.within)

    def take(self, index: NDArray) -> "Posterior":
        """The posterior of some draws."""
        return replace(self, theta=self.theta[index], noise=self.noise.take(index))

    @property
    def spread(self) -> float:
        """Standard deviation of log alpha, in units of what was known of it before."""
        alpha = self.problem.local.exponents(self.theta)[:, 0]
        return float(alpha.std() / self.problem.known.size_exponent.spread)

    def moments(self) -> dict[str, tuple[float, float]]:
        """Mean and variance of the logarithm of every quantity that `Known` has a belief of."""
        problem = self.problem
        logs = dict(zip(("size_exponent", "exposure_exponent"), problem.local.exponents(self.theta).T, strict=False))
        logs |= dict(zip(("size_slope", "exposure_slope"), problem.slopes(self.theta).T, strict=False))
        logs["run_noise"] = np.log(self.noise.between)
        return {name: (float(numbers.mean()), float(numbers.var())) for name, numbers in logs.items()}

    def moved(self, changes: NDArray, N: NDArray, D: NDArray) -> NDArray:
        """Numbers (b, n) that the middle law forecasts once the rows are changed by (b, rows), to first order.

        Both are on the series' scale.
        """
        problem = self.problem
        jacobian = problem.linearised(self.centre[None], self.middle)[1][0]
        weighed = -problem.whitened(changes, self.middle)
        beliefs = np.zeros((len(changes), len(jacobian) - weighed.shape[1]))
        curvature = jacobian.T @ jacobian + 1e-9 * np.eye(jacobian.shape[1])
        steps = -np.linalg.solve(curvature, jacobian.T @ np.concatenate([weighed, beliefs], 1).T).T
        return problem.numbers(self.centre + steps, *problem.series.away(N, D))


def posterior(local: Local, series: Series, known: Known, draws: int, seed: int = 0) -> Posterior:
    """Draw a form's posterior for one series.

    The same seed gives every series the same random numbers, so that no series depends on which others there are.
    """
    problem = LocalProblem(local, series, known)
    logs = known.run_noise.centre + known.run_noise.spread * NOISES
    within, drift = (0.03, 0.1) if series.share else (0.0, 0.0)
    noise = Noise(np.exp(logs), np.full(len(logs), within), np.full(len(logs), drift))
    theta, noise = _modes(problem, np.repeat(problem.start()[None], len(logs), 0), noise)
    misfit, jacobian = problem.linearised(theta, noise)
    roots = _roots(jacobian.swapaxes(1, 2) @ jacobian)
    likely = _likely(problem, theta, noise, misfit, roots)
    theta, noise, roots, nodes = theta[likely], noise.take(likely), roots[likely], NOISES[likely]
    rng, k, proposals = np.random.default_rng(seed), theta.shape[1], max(draws // 2, FEWEST)
    steps = rng.normal(size=(len(theta), proposals, k))
    steps /= np.sqrt(rng.chisquare(TAILS, size=(len(theta), proposals, 1)) / TAILS)
    proposed = np.clip(theta[:, None] + steps @ roots.swapaxes(1, 2), *problem.bounds).reshape(-1, k)
    tried = np.repeat(np.arange(len(theta)), proposals)
    weights = _log_density(problem, proposed, noise.take(tried)).reshape(len(theta), proposals)
    weights = weights - 0.5 * nodes[:, None] ** 2 - _log_proposed(steps, roots)
    weights = np.where(np.isfinite(weights), weights, -np.inf)
    means = logsumexp(weights, axis=1, keepdims=True) - log(proposals)
    weights = np.minimum(weights, means + 0.5 * log(proposals)).ravel()  # no draw stands for a crowd of its own
    total = logsumexp(weights)
    if not np.isfinite(total):
        raise ValueError(f"{series.labels}: no {' and '.join(local.axes)} law comes near these values; leave it out")
    chosen = _spread_evenly(np.exp(weights - total), draws, rng)
    evidence = total - log(proposals * len(NOISES)) - _log_volume(problem)
    return Posterior(problem, proposed[chosen], noise.take(tried[chosen]), float(evidence))


def _likely(problem: LocalProblem, theta: NDArray, noise: Noise, misfit: NDArray, roots: NDArray) -> NDArray:
    """Places of the noises between runs that matter, by Laplace's approximation of the evidence at each."""
    density = -0.5 * (misfit**2).sum(1) - problem.log_scale(noise) + problem.local.log_jacobian(theta)
    evidence = density + np.linalg.slogdet(roots)[1] - 0.5 * NOISES**2
    evidence = np.where(np.isfinite(evidence), evidence, -np.inf)
    return np.flatnonzero(evidence >= evidence.max() - UNLIKELY)


def _roots(curvature: NDArray) -> NDArray:
    """Matrices (b, k, k) whose squares are the inverses of the curvatures, none of them flat.

    They are symmetric: vectors have the signs and order that a processor gives them, and draws shall not.
    """
    values, vectors = np.linalg.eigh(curvature)
    return vectors / np.sqrt(np.maximum(values, FLATTEST))[:, None] @ vectors.swapaxes(1, 2)


def _modes(problem: LocalProblem, theta: NDArray, noise: Noise) -> tuple[NDArray, Noise]:
    """The θ (b, k) of least misfit for each noise between runs, and the checkpoints' noise there."""
    damping, unit = np.full(len(theta), 1e-2), np.eye(theta.shape[1])
    noise = problem.noise_of_checkpoints(theta, noise)
    for step_number in range(STEPS):
        misfit, jacobian = problem.linearised(theta, noise)
        curvature, slopes = jacobian.swapaxes(1, 2) @ jacobian, (misfit[:, None] @ jacobian)[:, 0]
        diagonal = np.einsum("bii->bi", curvature)
        damped = curvature + (damping[:, None] * diagonal + 1e-9)[:, None] * unit
        step = np.clip(-np.linalg.solve(damped, slopes[..., None])[..., 0], -LONGEST, LONGEST)
        tried = np.clip(theta + step, *problem.bounds)
        better = (problem.misfit(tried, noise) ** 2).sum(1) <= (misfit**2).sum(1)
        moved = np.abs(np.where(better[:, None], tried - theta, 0.0)).max()
        theta = np.where(better[:, None], tried, theta)
        damping = np.clip(np.where(better, damping * 0.3, damping * 6), 1e-7, 1e6)
        if step_number < STEPS // 2:
            noise = problem.noise_of_checkpoints(theta, noise)
        if step_number >= STILL and moved < SETTLED and damping.max() < 1:
            break
    return theta, noise


def _log_density(problem: LocalProblem, theta: NDArray, noise: Noise) -> NDArray:
    """Logarithm (b,) of likelihood times prior, but for a constant."""
    squares = (problem.misfit(theta, noise) ** 2).sum(1)
    return -0.5 * squares - problem.log_scale(noise) + problem.local.log_jacobian(theta)


def _log_proposed(steps: NDArray, roots: NDArray) -> NDArray:
    """Logarithm (b, draws) of how often a draw of Student's t is proposed, but for the constant in `_log_volume`."""
    k = steps.shape[-1]
    volume = np.linalg.slogdet(roots)[1][:, None]
    return -(TAILS + k) / 2 * np.log1p((steps**2).sum(2) / TAILS) - volume


def _log_volume(problem: LocalProblem) -> float:
    """Constants of the prior and of what draws are proposed from, which tell forms of unlike size apart."""
    k = len(problem.local.names)
    proposed = lgamma((TAILS + k) / 2) - lgamma(TAILS / 2) - k / 2 * log(TAILS * pi)
    spreads = [belief.spread for belief in problem.priors]
    beliefs = len(spreads) + problem.local.shape(np.zeros((1, k))).shape[1]
    return proposed + sum(map(log, spreads)) + beliefs / 2 * log(2 * pi)


def _spread_evenly(shares: NDArray, count: int, rng: np.random.Generator) -> NDArray:
    """Indices (count,) as often as their shares say, in an order of no meaning (systematic resampling)."""
    places = (rng.random() + np.arange(count)) / count
    chosen = np.searchsorted(np.cumsum(shares) / shares.sum(), places)
    return rng.permutation(np.minimum(chosen, len(shares) - 1))
