"""What a retriever costs over its life, annotation included, and the size and annotations that make the best of it.

Z(N, D) = annotation price · D + training price · FLOPs(N, D) + inference price · FLOPs(N) of all texts that the system
embeds while it lives (arXiv 2403.18684, §6). Money is in dollars throughout.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from .allocation import check_joint, log_ends, log_sum, terms, value_ends, values
from .cost import Cost
from .fitting import Fit
from .resampling import Draws
from .serving import FORWARD, lowest, search_window


@dataclass(frozen=True)
class Life:
    """Prices, and what is trained and embedded over a system's life. Every default is an assumption.

    annotation: dollars a pair. training_price, serving_price: dollars per 1e18 FLOPs; 1.4 is $2 an H100-hour at 4e14
    FLOP/s sustained. exposure: training pairs whatever the number of annotations, as in arXiv 2403.18684, where every
    run has 10,000 steps; epochs: passes over the annotations beside these. texts: documents and queries embedded over
    the life, each time that they are. text_share: FLOPs of embedding a text, as a share of those of training on a pair.
    """

    annotation: float = 0.6
    training_price: float = 1.4
    serving_price: float = 1.4
    exposure: float = 0.0
    epochs: float = 1.0
    texts: float = 0.0
    text_share: float = FORWARD / 2

    def __post_init__(self):
        """Raise ValueError where a number is negative or not finite, or where annotating and training cost nothing."""
        for name, number in vars(self).items():
            if not (np.isfinite(number) and number >= 0):
                raise ValueError(f"{name} is {number}; give a finite number that is not negative")
        if not self.annotation > 0 and not self.training_price * self.epochs > 0:
            raise ValueError("annotation and epochs cost nothing; without a price there is no best number of pairs")

    def without_inference(self) -> "Life":
        """The same life, all that it embeds left out."""
        return replace(self, texts=0.0)

    def costs(self, cost: Cost, N: ArrayLike, D: ArrayLike) -> pd.DataFrame:
        """Dollars of annotation, training, inference and in total at sizes N and annotations D, each (n,)."""
        N, D = np.broadcast_arrays(np.atleast_1d(np.asarray(N, float)), np.asarray(D, float))
        per_pair = cost.flops_per_unit(N) / 1e18
        table = pd.DataFrame({"annotation": self.annotation * D})
        table["training"] = self.training_price * per_pair * (self.exposure + self.epochs * D)
        table["inference"] = self.serving_price * per_pair * self.texts * self.text_share
        return table.assign(total=table.sum(axis=1))

    def log_fixed(self, log_per_pair: NDArray) -> NDArray:
        """Logarithm of the dollars that a size costs without any annotation; −∞ where that is nothing."""
        return self._log_price() + log_per_pair

    def log_largest(self, cost: Cost, log_budgets: NDArray) -> NDArray:
        """Logarithm of the size that costs a budget whole without any annotation; +∞ where there is none."""
        return cost.log_size(log_budgets - self._log_price())

    def _log_price(self) -> float:
        pairs = self.training_price * self.exposure + self.serving_price * self.texts * self.text_share
        with np.errstate(divide="ignore"):
            return np.log(pairs / 1e18)

    def log_each(self, log_per_pair: NDArray) -> NDArray:
        """Logarithm of the dollars that one more annotated pair costs, its training included."""
        with np.errstate(divide="ignore"):
            return np.logaddexp(
                np.log(self.annotation), np.log(self.training_price * self.epochs / 1e18) + log_per_pair
            )


def best_split(law: Fit | Draws, cost: Cost, life: Life, budgets: ArrayLike, *, level: float = 0.95) -> pd.DataFrame:
    """Size and annotations with the best value of a joint law for each budget, with inference counted and left out.

    law: of size and annotated pairs. cost: FLOPs of training on one pair. A size N leaves
    D = (budget − exposure and inference at N) / price of one more pair, and the best N is searched as in
    `within_budget`. budgets: (n,) dollars. Returns two rows a budget (inference True, then False): budget, inference,
    size, annotations, value, and annotation_dollars, training_dollars, inference_dollars; from draws also level, and
    _lo and _hi of size, annotations and value, which are estimate ± t · sd of the draws, all but the value in
    logarithms; sizes and annotations end where the budget does. Raises ValueError for a law without N or D, and for a
    budget below the cheapest run that was measured.
    """
    fit = law if isinstance(law, Fit) else law.fit
    check_joint(fit)
    budgets = np.atleast_1d(np.asarray(budgets, float))
    _check_budgets(fit, cost, life, budgets)
    tables = [_split(law, cost, one, budgets, level) for one in (life, life.without_inference())]
    table = pd.concat([table.assign(inference=counted) for table, counted in zip(tables, (True, False), strict=True)])
    return table.sort_values(["budget", "inference"], ascending=[True, False], ignore_index=True)


def _check_budgets(fit: Fit, cost: Cost, life: Life, budgets: NDArray) -> None:
    if not (np.isfinite(budgets) & (budgets > 0)).all():
        raise ValueError(f"budget is {budgets.tolist()}; give positive, finite numbers of dollars")
    runs = fit.data[["N", "D"]].drop_duplicates()
    least = life.costs(cost, runs["N"], runs["D"])["total"].min()
    if budgets.min() < least:
        raise ValueError(
            f"budget ${budgets.min():,.2f} is below the ${least:,.2f} that the cheapest measured run costs over its "
            "life; raise the budget, or lower the prices or the texts to embed"
        )


def _split(law: Fit | Draws, cost: Cost, life: Life, budgets: NDArray, level: float) -> pd.DataFrame:
    """The rows of `best_split` for one life, in the order of the budgets."""
    fit = law if isinstance(law, Fit) else law.fit
    best = _best(fit, fit.vector, cost, life, budgets)
    table = {"budget": budgets, "size": np.exp(best["size"]), "annotations": np.exp(best["annotations"])}
    table["value"] = best["value"]
    dollars = life.costs(cost, table["size"], table["annotations"]).drop(columns="total").add_suffix("_dollars")
    if isinstance(law, Draws):
        drawn = _best(fit, law.coefficients[:, None, :], cost, life, budgets)
        for name in ("size", "annotations"):
            table |= log_ends(law, name, best[name], drawn[name], level)
        table["size_hi"] = np.minimum(table["size_hi"], np.exp(life.log_largest(cost, np.log(budgets))))
        if life.annotation > 0:
            table["annotations_hi"] = np.minimum(table["annotations_hi"], budgets / life.annotation)
        table |= value_ends(law, best["value"], drawn["value"], level) | {"level": level}
    return pd.DataFrame(table).join(dollars)


def _best(fit: Fit, coefficients: NDArray, cost: Cost, life: Life, budgets: NDArray) -> dict[str, NDArray]:
    """Best size and annotations as logarithms, and the value, each (..., n); coefficients: (..., 1, k) or (k,)."""
    parts, log_budgets = terms(fit.law, coefficients), np.log(budgets)

    def log_annotations(log_N: NDArray) -> NDArray:
        log_per_pair = cost.log_per_unit(log_N)
        left = -np.expm1(np.minimum(life.log_fixed(log_per_pair) - log_budgets, 0.0))
        with np.errstate(divide="ignore"):
            return log_budgets + np.log(left) - life.log_each(log_per_pair)

    def left_over(log_N: NDArray) -> NDArray:
        return log_sum(parts, log_N, log_annotations(log_N))

    shape = np.broadcast_shapes(parts[0].shape, budgets.shape)
    log_N = lowest(left_over, *(np.full(shape, end) for end in search_window(fit)))
    return {
        "size": log_N,
        "annotations": log_annotations(log_N),
        "value": values(fit.law, coefficients, left_over(log_N)),
    }
