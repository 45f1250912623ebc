"""Size and exposure that a budget is best spent on.

All of it rests on what forecasts rest on, the average of the laws: what a size and an exposure are said to reach here
is what `Average.forecast` says of them. A budget leaves one exposure to each size, so its optimum lies on a line, which
is searched as far as the runs tell anything. Sizes, exposures and money are logarithms in here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from .averaging import Average
from .cost import Cost
from .life import Life

TIMES = 10.0  # the largest and longest fitted, and a tenth of the smallest: beyond that runs tell nothing
WITH_OPTIMUM = ("additive", "logarithm", "Kaplan")  # a sigmoid of size and exposure has no best division of a budget
POINTS, ROUNDS = 97, 2  # of a search along a line: the second looks between the neighbours of the first one's best
HALVINGS = 30  # of the exposures within reach, to the one that reaches a wanted value
EDGE = 1e-9  # nearer to the end of its reach than that, a size is at it
INSIDE = "inside"
NOT_TOLD = (
    "not told by these runs: all sizes and exposures within ten times what was fitted cost less, or all cost more"
)

Line = Callable[[NDArray], NDArray]  # log exposure that is left to each log size


@dataclass(frozen=True)
class Reach:
    """Logarithms of the smallest and largest size, and of the shortest and longest exposure, that are considered."""

    sizes: tuple[float, float]
    exposures: tuple[float, float]

    @classmethod
    def of(cls, rows: pd.DataFrame, times: float = TIMES) -> "Reach":
        """So many times what was fitted, in rows with N and D."""
        return cls(*((np.log(rows[x].min() / times), np.log(rows[x].max() * times)) for x in ("N", "D")))

    def line(self, log_exposure: Line, points: int = POINTS) -> tuple[NDArray, NDArray]:
        """Sizes and exposures (n,) within reach along a line, on which exposure falls with size; none where it is out.

        The ends of the line are where it leaves the reach.
        """
        fine = np.linspace(*self.sizes, 4 * points)
        left = log_exposure(fine)
        affordable, used_up = np.flatnonzero(left >= self.exposures[0]), np.flatnonzero(left <= self.exposures[1])
        if not (len(affordable) and len(used_up)):
            return np.empty(0), np.empty(0)
        first, last = (
            used_up[0],
            affordable[-1],
        )  # neighbours, where serving takes nearly all
        low, high = fine[first], fine[last]
        if first > 0:
            low = _crossing(log_exposure, fine[first - 1], low, self.exposures[1])
        if last < len(fine) - 1:
            high = _crossing(log_exposure, high, fine[last + 1], self.exposures[0])
        sizes = np.linspace(low, high, points)
        return sizes, np.clip(log_exposure(sizes), *self.exposures)

    def place(self, log_size: float, log_exposure: float, times: float = TIMES) -> str:
        """Where an optimum lies: inside the reach, or at which end of it, beyond which the runs do not tell."""
        ends = (
            ("smallest size", self.sizes[0] - log_size),
            ("largest size", log_size - self.sizes[1]),
            ("shortest exposure", self.exposures[0] - log_exposure),
            ("longest exposure", log_exposure - self.exposures[1]),
        )
        for name, beyond in ends:
            if beyond >= -EDGE:
                share = "a tenth of the" if name.startswith(("smallest", "shortest")) else f"{times:g} times the"
                return f"at {share} {name} fitted, where what these runs tell ends"
        return INSIDE


def optimal(average: Average, cost: Cost, flops: ArrayLike, reach: Reach, *, level: float = 0.95) -> pd.DataFrame:
    """Size and exposure with the best forecast at each training budget.

    For sums of powers and c(N) = κ·N^m the optimum has a closed form, N ∝ C^(β/(α+βm)) (arXiv 2203.15556, eq. 4, is
    m = 1); the average of several laws is searched. flops: (n,). Returns columns flops, size, exposure, value, _lo and
    _hi of each, level and status: `inside`, or at which end of the reach the optimum lies. Values are forecasts of one
    new run; sizes and exposures have the interval of the drawn optima of the laws that have one. What no size and
    exposure within reach cost is NaN, and so says the status.
    """
    flops = np.atleast_1d(np.asarray(flops, float))
    lines = [lambda log_N, money=money: money - cost.log_per_unit(log_N) for money in np.log(flops)]
    return pd.DataFrame({"flops": flops}).join(_best(average, lines, reach, level))


def within_budget(
    average: Average, cost: Cost, life: Life, budgets: ArrayLike, reach: Reach, *, level: float = 0.95
) -> pd.DataFrame:
    """Size and exposure with the best forecast, a whole life paid from one budget in dollars.

    budgets: (n,). Returns columns budget, those of `optimal` and the dollars of each part of the life that has a price,
    with _lo and _hi.
    """
    budgets = np.atleast_1d(np.asarray(budgets, float))
    best = _best(average, [life.log_exposure_line(cost, money) for money in np.log(budgets)], reach, level)
    return pd.DataFrame({"budget": budgets}).join(best).join(_money(cost, life, best))


def least_cost(
    average: Average, cost: Cost, life: Life, wanted: float, reach: Reach, *, level: float = 0.95
) -> pd.DataFrame:
    """Size and exposure whose forecast is the wanted value, at the least total cost of a life; one row.

    Returns columns wanted, size, exposure, the dollars of each part of the life that has a price, total, value with
    value_lo and value_hi (of one new run there), level and status: `inside`, at which end of the reach, or out of
    reach, and then the numbers are NaN.
    """
    series = average.series
    target = float(series.on_scale(np.array([wanted]))[0])
    sizes = np.linspace(*reach.sizes, POINTS)
    for _ in range(ROUNDS):
        exposures = _reaching(average, sizes, target, reach)
        totals = np.where(np.isnan(exposures), np.inf, life.log_total(cost, sizes, np.nan_to_num(exposures)))
        place = int(totals.argmin())
        if not np.isfinite(totals[place]):
            return _out_of_reach(average, wanted, reach, life, level)
        chosen = sizes[place], exposures[place]
        sizes = np.linspace(*sizes[np.clip([place - 1, place + 1], 0, len(sizes) - 1)], POINTS)
    table = _forecast(average, np.array([chosen[0]]), np.array([chosen[1]]), level)
    money = life.costs(cost, table["size"], table["exposure"])
    paid = money[[*life.paid_for, "total"]]
    return table.assign(wanted=wanted, status=reach.place(*chosen)).join(paid)


def exponents(average: Average, cost: Cost, *, level: float = 0.95) -> pd.DataFrame:
    """How the optimum grows with compute: N ∝ C^a and D ∝ C^b, a = β/(α+βm), b = α/(α+βm), m the cost's growth.

    Of the laws that have an optimum, by their weights. Returns two rows (exponent a of size, b of exposure) with value
    (the median), lo, hi, level.
    """
    m, drawn, shares = cost.growth, [], []
    for name in (name for name in WITH_OPTIMUM if name in average.posteriors):
        made = average.posteriors[name]
        alpha, beta = np.exp(made.problem.local.exponents(made.theta)).T
        drawn.append(np.stack([beta, alpha], 1) / (alpha + beta * m)[:, None])
        shares.append(np.full(len(alpha), average.weights[name] / len(alpha)))
    drawn, shares = np.concatenate(drawn), np.concatenate(shares)
    lo, value, hi = (weighted_quantile(drawn, shares, q) for q in ((1 - level) / 2, 0.5, (1 + level) / 2))
    columns = {"exponent": ["a", "b"], "of": ["size", "exposure"], "value": value, "lo": lo, "hi": hi}
    return pd.DataFrame(columns).assign(level=level)


def weighted_quantile(values: NDArray, shares: NDArray, share: float) -> NDArray:
    """Quantile (...) of values (draws, ...) that count as their shares (draws,)."""
    order = np.argsort(values, axis=0)
    reached = np.cumsum(shares[order], axis=0) >= share * shares.sum()
    return np.take_along_axis(np.take_along_axis(values, order, 0), reached.argmax(0)[None], 0)[0]


def _crossing(log_exposure: Line, low: float, high: float, wanted: float) -> float:
    """Log size between two at which a falling line crosses a log exposure."""
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if log_exposure(np.array([middle]))[0] > wanted else (low, middle)
    return (low + high) / 2


def _best(average: Average, lines: Sequence[Line], reach: Reach, level: float) -> pd.DataFrame:
    """The best size, exposure and value along each line, with their intervals and where they lie."""
    found = [_best_on(average, line, reach, level) for line in lines]
    columns = ["size", "exposure", "size_lo", "size_hi", "exposure_lo", "exposure_hi", "status"]
    table = pd.DataFrame(found, columns=columns)
    some = table["size"].notna()
    values = pd.DataFrame(index=table.index, columns=["value", "value_lo", "value_hi"], dtype=float)
    if some.any():
        there = _forecast(average, *np.log(table.loc[some, ["size", "exposure"]].to_numpy(float)).T, level)
        values.loc[some] = there[values.columns].to_numpy()
    return table.join(values).assign(level=level)


def _best_on(average: Average, line: Line, reach: Reach, level: float) -> tuple[float | str, ...]:
    sizes, exposures = reach.line(line)
    if not len(sizes):
        return (*[np.nan] * 6, NOT_TOLD)
    sign = 1 if average.series.rising else -1
    mixture = average.few.mixture(np.exp(sizes), np.exp(exposures))
    some = np.isin(mixture.forms, WITH_OPTIMUM)
    drawn = sizes[(sign * mixture.centres[some]).argmax(1)]
    low, high = (weighted_quantile(drawn, mixture.shares[some], q) for q in ((1 - level) / 2, (1 + level) / 2))
    place = int((sign * mixture.quantile("mean_law", 0.5)).argmax())
    around = np.linspace(*sizes[np.clip([place - 1, place + 1], 0, len(sizes) - 1)], POINTS // 4)
    closer = average.few.mixture(np.exp(around), np.exp(np.clip(line(around), *reach.exposures)))
    best = around[int((sign * closer.quantile("mean_law", 0.5)).argmax())]
    low, high = min(low, best), max(high, best)
    size, *exposures = (float(np.clip(line(np.array([log_N]))[0], *reach.exposures)) for log_N in (best, high, low))
    return (*np.exp([best, size, low, high, *exposures]), reach.place(best, size))


def _forecast(average: Average, sizes: NDArray, exposures: NDArray, level: float) -> pd.DataFrame:
    """Forecasts of one new run at logarithms of sizes and exposures: size, exposure, value, its ends, level."""
    at = pd.DataFrame({"N": np.exp(sizes), "D": np.exp(exposures)})
    made = average.forecast(at, level, ["new_run"])
    names = {"N": "size", "D": "exposure", "forecast": "value", "lo": "value_lo", "hi": "value_hi", "level": "level"}
    return made[[*names]].rename(columns=names)


def _money(cost: Cost, life: Life, best: pd.DataFrame) -> pd.DataFrame:
    """Dollars of each part of a life, their ends those of the size's interval."""
    tables = [
        life.costs(cost, best[f"size{end}"], best[f"exposure{other}"])[[*life.paid_for]].add_suffix(end)
        for end, other in (("", ""), ("_lo", "_hi"), ("_hi", "_lo"))
    ]
    made = pd.concat(tables, axis=1)
    for part in life.paid_for:
        ends = made[[f"{part}_lo", f"{part}_hi"]].to_numpy()
        made[f"{part}_lo"], made[f"{part}_hi"] = ends.min(1), ends.max(1)
    return made


def _reaching(average: Average, sizes: NDArray, target: float, reach: Reach) -> NDArray:
    """Log exposures (n,) within reach at which sizes are forecast to reach a number; NaN where none does."""
    sign = 1 if average.series.rising else -1

    def beyond(exposures: NDArray) -> NDArray:
        said = average.few.mixture(np.exp(sizes), np.exp(exposures)).quantile("mean_law", 0.5)
        return sign * (said - target) >= 0

    low, high = (np.full(len(sizes), end) for end in reach.exposures)
    never = ~beyond(high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        enough = beyond(middle)
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(never, np.nan, high)


def _out_of_reach(average: Average, wanted: float, reach: Reach, life: Life, level: float) -> pd.DataFrame:
    corner = average.median(*(np.exp([ends[1]]) for ends in (reach.sizes, reach.exposures)))[0]
    why = f"out of reach: with ten times the largest size and longest exposure fitted {corner:.4f} is forecast"
    names = ["size", "exposure", *life.paid_for, "total", "value", "value_lo", "value_hi"]
    return pd.DataFrame([dict.fromkeys(names, np.nan) | {"wanted": wanted, "level": level, "status": why}])
