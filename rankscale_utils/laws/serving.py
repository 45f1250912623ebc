"""What a system costs over its life, training and serving together, and the size and exposure that make the best of it.

Money is in dollars throughout. Sizes, exposures and money are searched as logarithms, which no draw can overflow.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from .allocation import check_joint, log_ends, log_sum, terms, value_ends, values
from .cost import Cost
from .fitting import Fit
from .resampling import Draws

FORWARD = 1 / 3  # of a training pair's FLOPs: the backward pass costs twice the forward pass (arXiv 2001.08361, §2.1)
POINTS, ROUNDS = 129, 5  # of the search: each round looks between the neighbours of the last one's best point
SEARCH_REACH = 23.0  # how far from the fitted sizes an optimum is looked for, in logarithms: ten thousand million times
BEYOND_SMALLEST = 50.0  # the same from the smallest size that can reach a wanted value


@dataclass(frozen=True)
class Service:
    """What is served, and what compute costs.

    queries: over the system's life. depth: candidates scored a query. training_price, serving_price: dollars per 1e18
    FLOPs. score_share: FLOPs of scoring a pair, as a share of those of training on one unit of exposure.
    """

    queries: float
    depth: float
    training_price: float
    serving_price: float
    score_share: float = FORWARD

    def __post_init__(self):
        """Raise ValueError where a number is negative or not finite, or training costs nothing."""
        for name, number in vars(self).items():
            if not (np.isfinite(number) and number >= 0):
                raise ValueError(f"{name} is {number}; give a finite number that is not negative")
        if not self.training_price > 0:
            raise ValueError("training_price is 0; where training costs nothing there is no best exposure")

    def log_training(self, cost: Cost, log_N: NDArray) -> NDArray:
        """Logarithm of the dollars for training on one unit of exposure, at logarithms of sizes."""
        return np.log(self.training_price / 1e18) + cost.log_per_unit(log_N)

    def log_largest(self, cost: Cost, log_budgets: NDArray) -> NDArray:
        """Logarithm of the size whose serving costs a budget whole; +∞ where nothing is served."""
        return cost.log_size(log_budgets - self._log_pairs())

    def _log_pairs(self) -> float:
        with np.errstate(divide="ignore"):
            return np.log(self.serving_price / 1e18 * self.queries * self.depth * self.score_share)

    def log_serving(self, cost: Cost, log_N: NDArray) -> NDArray:
        """Logarithm of the dollars for serving all queries, at logarithms of sizes; −∞ where nothing is served."""
        return self._log_pairs() + cost.log_per_unit(log_N)


def within_budget(
    law: Fit | Draws, cost: Cost, service: Service, budgets: ArrayLike, *, level: float = 0.95
) -> pd.DataFrame:
    """Size and exposure with the best value of a joint law, training and serving paid from one budget in dollars.

    A size N leaves D = (budget − serving(N)) / training price of a pair; the best N is searched on a grid of log N that
    is refined around its best point. Without queries it is `optimal`. budgets: (n,). Returns columns budget, size,
    exposure, value, training, serving (dollars); from draws also level, and _lo and _hi of each, which are estimate ±
    t · sd of the draws, all but the value in logarithms; sizes and money end where the budget does. Raises ValueError
    for a law without N or D and for a budget that is not positive.
    """
    fit, budgets = _checked(law, budgets, "budget")
    best = _best(fit, fit.vector, cost, service, budgets)
    table = {"budget": budgets} | {name: np.exp(best[name]) for name in best if name != "value"}
    table["value"] = best["value"]
    if isinstance(law, Draws):
        drawn = _best(fit, law.coefficients[:, None, :], cost, service, budgets)
        for name in ("size", "exposure", "training", "serving"):
            table |= log_ends(law, name, best[name], drawn[name], level)
        table["size_hi"] = np.minimum(table["size_hi"], np.exp(service.log_largest(cost, np.log(budgets))))
        for end in ("training_lo", "training_hi", "serving_lo", "serving_hi"):
            table[end] = np.minimum(table[end], budgets)
        table |= value_ends(law, best["value"], drawn["value"], level) | {"level": level}
    return pd.DataFrame(table)


def least_cost(
    law: Fit | Draws, cost: Cost, service: Service, wanted: ArrayLike, *, level: float = 0.95
) -> pd.DataFrame:
    """Size and exposure that reach a wanted value at the least total cost.

    With `rest` what the law leaves to the data after the size's term, D = (B / rest)^(1/β); the cheapest N is searched
    as in `within_budget`, from the smallest that can reach the value on. wanted: (n,). Returns columns wanted, size,
    exposure, training, serving, total (dollars) and status: `reachable`, or why not, and then the numbers are NaN.
    From draws also level, _lo and _hi of each, and reached, the share of draws that can reach the value at all: where
    more than half of 1 − level cannot, the upper ends are infinite. Raises ValueError as `within_budget` does.
    """
    fit, wanted = _checked(law, wanted, "wanted value")
    best = _cheapest(fit, fit.vector, cost, service, wanted)
    reachable = np.isfinite(best["total"])
    best = {name: np.where(reachable, logarithm, np.nan) for name, logarithm in best.items()}
    with np.errstate(over="ignore"):
        table = {"wanted": wanted} | {name: np.exp(best[name]) for name in best}
    if isinstance(law, Draws):
        drawn = _cheapest(fit, law.coefficients[:, None, :], cost, service, wanted)
        reached = np.isfinite(drawn["total"])
        for name in best:
            table |= _ends_of_reached(law, name, best[name], drawn[name], reached, level)
        table |= {"reached": reached.mean(axis=0), "level": level}
    most = float(fit.law.from_scale(fit.vector[0]))
    why = f"out of reach: with any size and any exposure the law comes no further than {most:.4f}"
    return pd.DataFrame(table).assign(status=np.where(reachable, "reachable", why))


def _checked(law: Fit | Draws, numbers: ArrayLike, what: str) -> tuple[Fit, NDArray]:
    """The fit, and the numbers as (n,) positive ones."""
    fit = law if isinstance(law, Fit) else law.fit
    check_joint(fit)
    numbers = np.atleast_1d(np.asarray(numbers, float))
    if not (np.isfinite(numbers) & (numbers > 0)).all():
        raise ValueError(f"{what} is {numbers.tolist()}; give positive, finite numbers")
    return fit, numbers


def best_sizes(draws: Draws, cost: Cost, service: Service, budget: float) -> NDArray:
    """Best size within a budget of every drawn law (draws,)."""
    found = _best(draws.fit, draws.coefficients[:, None, :], cost, service, np.array([budget]))
    return np.exp(found["size"][:, 0])


def search_window(fit: Fit) -> tuple[float, float]:
    """Logarithms of the smallest and the largest size that are considered."""
    sizes = np.log(fit.data["N"])
    return float(sizes.min() - SEARCH_REACH), float(sizes.max() + SEARCH_REACH)


def _best(fit: Fit, coefficients: NDArray, cost: Cost, service: Service, budgets: NDArray) -> dict[str, NDArray]:
    """Best size, exposure and money as logarithms, and the value, each (..., n); coefficients: (..., 1, k) or (k,)."""
    parts, log_budgets = terms(fit.law, coefficients), np.log(budgets)

    def log_training(log_N: NDArray) -> NDArray:
        left = -np.expm1(np.minimum(service.log_serving(cost, log_N) - log_budgets, 0.0))
        with np.errstate(divide="ignore"):
            return log_budgets + np.log(left)

    def left_over(log_N: NDArray) -> NDArray:
        return log_sum(parts, log_N, log_training(log_N) - service.log_training(cost, log_N))

    shape = np.broadcast_shapes(parts[0].shape, budgets.shape)
    low, high = (np.full(shape, end) for end in search_window(fit))
    log_N = lowest(left_over, low, high)
    training = log_training(log_N)
    return {
        "size": log_N,
        "exposure": training - service.log_training(cost, log_N),
        "training": training,
        "serving": service.log_serving(cost, log_N),
        "value": values(fit.law, coefficients, left_over(log_N)),
    }


def _cheapest(fit: Fit, coefficients: NDArray, cost: Cost, service: Service, wanted: NDArray) -> dict[str, NDArray]:
    """Size, exposure and money of least total cost as logarithms, each (..., n); a total of +∞ where out of reach."""
    log_A, alpha, log_B, beta, power = terms(fit.law, coefficients)
    left = fit.law.sign * (fit.law.to_scale(wanted) - coefficients[..., 0])
    log_left = np.log(np.where(left > 0, left, 1.0)) / power

    def log_exposure(log_N: NDArray) -> NDArray:
        with np.errstate(divide="ignore"):
            rest = np.log(np.maximum(-np.expm1(np.minimum(log_A - alpha * log_N - log_left, 0.0)), 0.0))
        return (log_B - log_left - rest) / beta

    def money(log_N: NDArray) -> tuple[NDArray, NDArray]:
        return service.log_training(cost, log_N) + log_exposure(log_N), service.log_serving(cost, log_N)

    smallest = np.broadcast_to((log_A - log_left) / alpha, left.shape)
    log_N = lowest(lambda log_N: np.logaddexp(*money(log_N)), smallest, smallest + BEYOND_SMALLEST)
    training, serving = money(log_N)
    total = np.where(left > 0, np.logaddexp(training, serving), np.inf)
    return {
        "size": log_N,
        "exposure": log_exposure(log_N),
        "training": training,
        "serving": serving,
        "total": total,
    }


def lowest(of: Callable[[NDArray], NDArray], low: NDArray, high: NDArray) -> NDArray:
    """Where a function of log size with one valley is lowest between low and high, each (...)."""
    for _ in range(ROUNDS):
        grid = np.linspace(low, high, POINTS)
        best = of(grid).argmin(0)[None]
        low, high = (np.take_along_axis(grid, np.clip(best + side, 0, POINTS - 1), 0)[0] for side in (-1, 1))
    return (low + high) / 2


def _ends_of_reached(
    draws: Draws, name: str, estimate: NDArray, drawn: NDArray, reached: NDArray, level: float
) -> dict[str, NDArray]:
    """Columns name_lo and name_hi (n,) from the draws that reach the value; unbounded above where too many do not."""
    ends = {f"{name}_lo": np.full(len(estimate), np.nan), f"{name}_hi": np.full(len(estimate), np.nan)}
    for place in range(len(estimate)):
        some = reached[:, place]
        if np.isfinite(estimate[place]) and some.sum() > 1:
            found = log_ends(draws, name, estimate[[place]], drawn[some][:, [place]], level)
            for end in ends:
                ends[end][place] = found[end][0]
            if (~some).mean() > (1 - level) / 2:
                ends[f"{name}_hi"][place] = np.inf
        elif np.isneginf(estimate[place]):
            ends[f"{name}_lo"][place] = ends[f"{name}_hi"][place] = 0.0
    return ends
