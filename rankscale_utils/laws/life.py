"""What a system costs over its life.

Z(N, D) = annotation price · D + training price · c(N) · (fixed exposure + epochs · D) + serving price · c(N) · share ·
texts, where c(N) are the FLOPs of training on a pair (arXiv 2403.18684, §6). Money is in dollars; sizes, exposures and
money are logarithms, which no draw can overflow.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from .cost import Cost

FORWARD = 1 / 3  # of a training pair's FLOPs: the backward pass costs twice the forward pass (arXiv 2001.08361, §2.1)


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
        with np.errstate(divide="ignore", invalid="ignore"):
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

    def log_total(self, cost: Cost, log_N: NDArray, log_D: NDArray) -> NDArray:
        """Logarithm of the dollars of a whole life."""
        return np.logaddexp(self.log_each(cost, log_N) + log_D, self.log_fixed(cost, log_N))

    def log_exposure_line(self, cost: Cost, log_budget: ArrayLike) -> Callable[[NDArray], NDArray]:
        """Log exposure that a budget leaves to each log size; −∞ where the size alone costs all of it."""

        def line(log_N: NDArray) -> NDArray:
            left = -np.expm1(np.minimum(self.log_fixed(cost, log_N) - log_budget, 0.0))
            with np.errstate(divide="ignore"):
                return log_budget + np.log(left) - self.log_each(cost, log_N)

        return line


def _log(number: float) -> float:
    """Logarithm, and −∞ of nothing."""
    return float(np.log(number)) if number > 0 else -np.inf
