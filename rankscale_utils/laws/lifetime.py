"""The size and the annotations that make the best of a budget, by one joint law, as arXiv 2403.18684, §6 has it.

Money is in dollars throughout. Sizes, exposures and money are searched as logarithms, which no draw can overflow.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from .cost import Cost
from .fitting import Fit
from .forecasting import interval
from .forms import KaplanLaw
from .law import Law
from .life import Life
from .resampling import Draws, robust_sd, t_quantile

POINTS, ROUNDS = 129, 5  # of the search: each round looks between the neighbours of the last one's best point
SEARCH_REACH = 23.0  # how far from the fitted sizes an optimum is looked for, in logarithms: ten thousand million times


def split_budget(law: Fit | Draws, cost: Cost, life: Life, budgets: ArrayLike, *, level: float = 0.95) -> pd.DataFrame:
    """Size and exposure with the best value of a joint law, a whole life paid from one budget in dollars.

    A size N leaves D = (budget − what N costs whatever D is) / price of a unit of D; the best N is searched on a grid
    of log N that is refined around its best point. budgets: (n,).
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


def _window(fit: Fit) -> tuple[float, float]:
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

    log_exposure = life.log_exposure_line(cost, log_budgets)

    def logarithm_of_sum(log_N: NDArray) -> NDArray:
        return log_sum(parts, log_N, log_exposure(log_N))

    shape = np.broadcast_shapes(parts[0].shape, budgets.shape)
    log_N = lowest(logarithm_of_sum, *(np.full(shape, end) for end in _window(fit)))
    value = values(fit.law, coefficients, logarithm_of_sum(log_N))
    return _with_money(cost, life, log_N, log_exposure(log_N)), value


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


def terms(law: Law, coefficients: ArrayLike) -> tuple[NDArray, ...]:
    """A joint law's sum as (A·N^−α + B·D^−β)^power: log A, α, log B, β and power, each (...).

    The power is 1 but for Kaplan's law, whose A^(α/β), α/β and 1 stand for A, α and β, and whose power is β.
    """
    log_A, alpha, log_B, beta = np.moveaxis(law.to_working(coefficients)[..., 1:], -1, 0)
    unity = np.ones_like(beta)
    if isinstance(law, KaplanLaw):
        return alpha / beta * log_A, alpha / beta, log_B, unity, beta
    return log_A, alpha, log_B, beta, unity


def log_sum(parts: tuple[NDArray, ...], log_N: ArrayLike, log_D: ArrayLike) -> NDArray:
    """Logarithm of a joint law's sum, from its `terms` and logarithms of size and exposure."""
    log_A, alpha, log_B, beta, power = parts
    return power * np.logaddexp(log_A - alpha * log_N, log_B - beta * log_D)


def values(law: Law, coefficients: ArrayLike, logarithm: ArrayLike) -> NDArray:
    """Values of a joint law (...) whose sum has this logarithm (...)."""
    with np.errstate(over="ignore"):
        return law.from_scale(np.asarray(coefficients, float)[..., 0] + law.sign * np.exp(logarithm))


def log_ends(draws: Draws, name: str, estimate: NDArray, drawn: NDArray, level: float) -> dict[str, NDArray]:
    """Columns name_lo and name_hi (n,) of a positive quantity whose logarithms are estimate (n,) and drawn (draws, n).

    An estimate of zero, whose logarithm is −∞, has no width.
    """
    none = np.isneginf(estimate)
    with np.errstate(over="ignore"):
        reach = t_quantile(level, draws.degrees) * robust_sd(np.where(none, 0.0, drawn))
        return {f"{name}_{end}": np.exp(estimate + side * reach) for side, end in ((-1, "lo"), (1, "hi"))}


def value_ends(draws: Draws, estimate: NDArray, drawn: NDArray, level: float) -> dict[str, NDArray]:
    """Columns value_lo and value_hi (n,) around values (n,), from drawn ones (draws, n), as forecasts have them."""
    sd = robust_sd(draws.fit.law.to_scale(drawn, draws.fit.scale))
    return dict(zip(("value_lo", "value_hi"), interval(draws.fit, estimate, sd, level, draws.degrees), strict=True))


def check_joint(fit: Fit) -> None:
    """Raise ValueError for a law that lacks size or exposure."""
    if fit.law.axes != ("N", "D"):
        raise ValueError(f"the law is a {fit.law.name} law; allocate with a joint law of size and exposure")
