"""What a system costs over its life, and the size and exposure that make the best of it.

Z(N, D) = annotation price · D + training price · c(N) · (fixed exposure + epochs · D) + serving price · c(N) · share ·
texts, where c(N) are the FLOPs of training on a pair (arXiv 2403.18684, §6). Money is in dollars throughout. Sizes,
exposures and money are searched as logarithms, which no draw can overflow.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

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
class Life:
    """Prices, and what is trained and served over a system's life. Every default is an assumption.

    D is what the law counts as exposure: training pairs, or annotated ones. annotation: dollars a unit of D.
    training_price, serving_price: dollars per 1e18 FLOPs; 1.4 is $2 an H100-hour at 4e14 FLOP/s sustained.
    fixed_exposure: training pairs whatever D is, as in arXiv 2403.18684, where every run has 10,000 steps; epochs:
    passes over D beside these. texts: what is embedded or scored over the life, each time that it is. text_share: FLOPs
    of one of them, as a share of those of training on a pair.
    """

    annotation: float = 0.6
    training_price: float = 1.4
    serving_price: float = 1.4
    fixed_exposure: float = 0.0
    epochs: float = 1.0
    texts: float = 0.0
    text_share: float = FORWARD / 2

    def __post_init__(self):
        """Raise ValueError where a number is negative or not finite, or where annotating and training cost nothing."""
        for name, number in vars(self).items():
            if not (np.isfinite(number) and number >= 0):
                raise ValueError(f"{name} is {number}; give a finite number that is not negative")
        if not self.annotation > 0 and not self.training_price * self.epochs > 0:
            raise ValueError(
                "annotation is 0, and training_price or epochs too; where D costs nothing there is no best exposure"
            )

    @property
    def paid_for(self) -> tuple[str, ...]:
        """Names of what money goes into, annotation only where it has a price."""
        return ("annotation", "training", "serving") if self.annotation > 0 else ("training", "serving")

    def without_serving(self) -> "Life":
        """The same life, all that it serves left out."""
        return replace(self, texts=0.0)

    def costs(self, cost: Cost, N: ArrayLike, D: ArrayLike) -> pd.DataFrame:
        """Dollars of annotation, training, serving and in total at sizes N and exposures D, each (n,)."""
        N, D = np.broadcast_arrays(np.atleast_1d(np.asarray(N, float)), np.asarray(D, float))
        with np.errstate(divide="ignore"):
            logarithms = self.log_costs(cost, np.log(N), np.log(D))
        table = pd.DataFrame({name: np.exp(logarithm) for name, logarithm in logarithms.items()})
        return table.assign(total=table.sum(axis=1))

    def log_costs(self, cost: Cost, log_N: NDArray, log_D: NDArray) -> dict[str, NDArray]:
        """Logarithms (...) of the dollars of annotation, training and serving; −∞ where they are nothing."""
        log_pair = cost.log_per_unit(log_N)
        pairs = np.logaddexp(_log(self.fixed_exposure), _log(self.epochs) + log_D)
        return {
            "annotation": _log(self.annotation) + log_D,
            "training": _log(self.training_price / 1e18) + log_pair + pairs,
            "serving": _log(self.serving_price * self.texts * self.text_share / 1e18) + log_pair,
        }

    def log_fixed(self, cost: Cost, log_N: NDArray) -> NDArray:
        """Logarithm of the dollars that a size costs whatever D is; −∞ where that is nothing."""
        return self._log_fixed_price() + cost.log_per_unit(log_N)

    def log_each(self, cost: Cost, log_N: NDArray) -> NDArray:
        """Logarithm of the dollars that one more unit of D costs, its training included."""
        return np.logaddexp(
            _log(self.annotation), _log(self.training_price * self.epochs / 1e18) + cost.log_per_unit(log_N)
        )

    def log_largest(self, cost: Cost, log_budgets: NDArray) -> NDArray:
        """Logarithm of the size that costs a budget whole without any D; +∞ where there is none."""
        return cost.log_size(log_budgets - self._log_fixed_price())

    def _log_fixed_price(self) -> float:
        pairs = self.training_price * self.fixed_exposure + self.serving_price * self.texts * self.text_share
        return _log(pairs / 1e18)


def _log(number: float) -> float:
    """Logarithm, and −∞ of nothing."""
    return float(np.log(number)) if number > 0 else -np.inf


def within_budget(law: Fit | Draws, cost: Cost, life: Life, budgets: ArrayLike, *, level: float = 0.95) -> pd.DataFrame:
    """Size and exposure with the best value of a joint law, a whole life paid from one budget in dollars.

    A size N leaves D = (budget − what N costs whatever D is) / price of a unit of D; the best N is searched on a grid
    of log N that is refined around its best point. Where nothing is fixed or annotated it is `optimal`. budgets: (n,).
    Returns columns budget, size, exposure, the dollars of each part of the life that has a price (annotation, training,
    serving) and value; from draws also level, and _lo and _hi of each, which are estimate ± t · sd of the draws, all
    but the value in logarithms; they end where the budget does. Raises ValueError for a law without N or D and for a
    budget that is not positive.
    """
    fit, budgets = _checked(law, budgets, "budget")
    best, value = _best(fit, fit.vector, cost, life, budgets)
    table = {"budget": budgets} | {name: np.exp(logarithm) for name, logarithm in best.items()} | {"value": value}
    if isinstance(law, Draws):
        drawn, drawn_values = _best(fit, law.coefficients[:, None, :], cost, life, budgets)
        for name, logarithm in best.items():
            table |= log_ends(law, name, logarithm, drawn[name], level)
        table["size_hi"] = np.minimum(table["size_hi"], np.exp(life.log_largest(cost, np.log(budgets))))
        if life.annotation > 0:
            table["exposure_hi"] = np.minimum(table["exposure_hi"], budgets / life.annotation)
        for end in (f"{part}_{side}" for part in life.paid_for for side in ("lo", "hi")):
            table[end] = np.minimum(table[end], budgets)
        table |= value_ends(law, value, drawn_values, level) | {"level": level}
    return pd.DataFrame(table)


def least_cost(law: Fit | Draws, cost: Cost, life: Life, wanted: ArrayLike, *, level: float = 0.95) -> pd.DataFrame:
    """Size and exposure that reach a wanted value at the least total cost of a life.

    With `rest` what the law leaves to the data after the size's term, D = (B / rest)^(1/β); the cheapest N is searched
    as in `within_budget`, from the smallest that can reach the value on. wanted: (n,) values of the metric. Returns
    columns wanted, size, exposure, the dollars of each part of the life that has a price, total, and status:
    `reachable`, or why not, and then the numbers are NaN. From draws also level, _lo and _hi of each, and reached, the
    share of draws that can reach the value at all: where more than half of 1 − level cannot, the upper ends are
    infinite. Raises ValueError as `within_budget` does.
    """
    fit, wanted = _checked(law, wanted, "wanted value")
    best = _cheapest(fit, fit.vector, cost, life, wanted)
    reachable = np.isfinite(best["total"])
    best = {name: np.where(reachable, logarithm, np.nan) for name, logarithm in best.items()}
    with np.errstate(over="ignore"):
        table = {"wanted": wanted} | {name: np.exp(logarithm) for name, logarithm in best.items()}
    if isinstance(law, Draws):
        drawn = _cheapest(fit, law.coefficients[:, None, :], cost, life, wanted)
        reached = np.isfinite(drawn["total"])
        for name, logarithm in best.items():
            table |= _ends_of_reached(law, name, logarithm, drawn[name], reached, level)
        table |= {"reached": reached.mean(axis=0), "level": level}
    most = float(fit.law.from_scale(fit.vector[0]))
    why = f"out of reach: with any size and any exposure the law comes no further than {most:.4f}"
    return pd.DataFrame(table).assign(status=np.where(reachable, "reachable", why))


def best_sizes(draws: Draws, cost: Cost, life: Life, budget: float) -> NDArray:
    """Best size within a budget of every drawn law (draws,)."""
    best, _ = _best(draws.fit, draws.coefficients[:, None, :], cost, life, np.array([budget]))
    return np.exp(best["size"][:, 0])


def search_window(fit: Fit) -> tuple[float, float]:
    """Logarithms of the smallest and the largest size that are considered."""
    sizes = np.log(fit.data["N"])
    return float(sizes.min() - SEARCH_REACH), float(sizes.max() + SEARCH_REACH)


def _checked(law: Fit | Draws, numbers: ArrayLike, what: str) -> tuple[Fit, NDArray]:
    """The fit, and the numbers as (n,) positive ones."""
    fit = law if isinstance(law, Fit) else law.fit
    check_joint(fit)
    numbers = np.atleast_1d(np.asarray(numbers, float))
    if not (np.isfinite(numbers) & (numbers > 0)).all():
        raise ValueError(f"{what} is {numbers.tolist()}; give positive, finite numbers")
    return fit, numbers


def _best(
    fit: Fit, coefficients: NDArray, cost: Cost, life: Life, budgets: NDArray
) -> tuple[dict[str, NDArray], NDArray]:
    """Best size, exposure and money as logarithms, and the value, each (..., n); coefficients: (..., 1, k) or (k,)."""
    parts, log_budgets = terms(fit.law, coefficients), np.log(budgets)

    def log_exposure(log_N: NDArray) -> NDArray:
        left = -np.expm1(np.minimum(life.log_fixed(cost, log_N) - log_budgets, 0.0))
        with np.errstate(divide="ignore"):
            return log_budgets + np.log(left) - life.log_each(cost, log_N)

    def logarithm_of_sum(log_N: NDArray) -> NDArray:
        return log_sum(parts, log_N, log_exposure(log_N))

    shape = np.broadcast_shapes(parts[0].shape, budgets.shape)
    log_N = lowest(logarithm_of_sum, *(np.full(shape, end) for end in search_window(fit)))
    value = values(fit.law, coefficients, logarithm_of_sum(log_N))
    return _with_money(cost, life, log_N, log_exposure(log_N)), value


def _cheapest(fit: Fit, coefficients: NDArray, cost: Cost, life: Life, wanted: NDArray) -> dict[str, NDArray]:
    """Size, exposure and money of least total cost as logarithms, each (..., n); a total of +∞ where out of reach."""
    log_A, alpha, log_B, beta, power = terms(fit.law, coefficients)
    left = fit.law.sign * (fit.law.to_scale(wanted) - coefficients[..., 0])
    log_left = np.log(np.where(left > 0, left, 1.0)) / power

    def log_exposure(log_N: NDArray) -> NDArray:
        with np.errstate(divide="ignore"):
            rest = np.log(np.maximum(-np.expm1(np.minimum(log_A - alpha * log_N - log_left, 0.0)), 0.0))
        return (log_B - log_left - rest) / beta

    def log_total(log_N: NDArray) -> NDArray:
        return np.logaddexp(life.log_each(cost, log_N) + log_exposure(log_N), life.log_fixed(cost, log_N))

    smallest = np.broadcast_to((log_A - log_left) / alpha, left.shape)
    log_N = lowest(log_total, smallest, smallest + BEYOND_SMALLEST)
    total = np.where(left > 0, log_total(log_N), np.inf)
    return _with_money(cost, life, log_N, log_exposure(log_N)) | {"total": total}


def _with_money(cost: Cost, life: Life, log_N: NDArray, log_D: NDArray) -> dict[str, NDArray]:
    """Size, exposure and what each part of the life costs with them, all as logarithms (...)."""
    money = life.log_costs(cost, log_N, log_D)
    return {"size": log_N, "exposure": log_D} | {part: money[part] for part in life.paid_for}


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
    for index in range(len(estimate)):
        some = reached[:, index]
        if np.isfinite(estimate[index]) and some.sum() > 1:
            reaching = log_ends(draws, name, estimate[[index]], drawn[some][:, [index]], level)
            for end in ends:
                ends[end][index] = reaching[end][0]
            if (~some).mean() > (1 - level) / 2:
                ends[f"{name}_hi"][index] = np.inf
        elif np.isneginf(estimate[index]):
            ends[f"{name}_lo"][index] = ends[f"{name}_hi"][index] = 0.0
    return ends
