"""What a budget in dollars buys when it pays for annotation, training and a life of serving."""

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from rankscale_utils import laws
from rankscale_utils.errors import StudyError
from rankscale_utils.laws import Life, split_budget
from rankscale_utils.study.study import Study

from .annotation_laws import AnnotationLaws
from .budgets import MORE_TRAINING

ANNOTATION_BUDGETS = 7
LARGEST = 100  # times what the dearest measured run costs: the largest budget


def pair_cost(found: AnnotationLaws) -> laws.Cost:
    """Return the training FLOPs of a pair that is seen, by size, as the runs counted them."""
    rungs = found.human.groupby("rung")
    return laws.Cost.from_ladder(rungs["N"].first(), rungs["flops"].sum() / rungs["exposure"].sum())


def life(study: Study, found: AnnotationLaws) -> Life:
    """Return what the study's retriever costs over its life.

    The pairs that training sees are exposure + epochs · D, neither negative, the nearest to the own ends of the runs on
    human pairs by relative least squares.
    """
    given, human = study.allocation, found.human
    seen = np.column_stack([np.ones(len(human)), human["D"]]) / human[["exposure"]].to_numpy()
    (exposure, epochs), _ = nnls(seen, np.ones(len(human)))
    return Life(
        annotation=given.annotation_price,
        training_price=given.training_price,
        serving_price=given.serving_price,
        fixed_exposure=float(exposure),
        epochs=float(epochs),
        texts=given.queries + given.documents,
    )


def spent_on_designs(study: Study, found: AnnotationLaws) -> pd.Series:
    """Return the dollars that each fitted design of size and human pairs costs over its life, inference included."""
    designs = found.joint.fit.data[["N", "D"]].drop_duplicates()
    return life(study, found).costs(pair_cost(found), designs["N"], designs["D"])["total"]


def annotation_budget(study: Study, found: AnnotationLaws) -> float:
    """Return the dollars that sentences speak of: the study's own, or ten times what the dearest run costs.

    Raises:
        StudyError: the study's own is less than the cheapest measured run costs.
    """
    own, costs = study.allocation.budget, spent_on_designs(study, found)
    if own is None:
        return float(MORE_TRAINING * costs.max())
    if own < costs.min():
        raise StudyError(
            f"allocation.budget = {own:g}: the cheapest measured run costs ${costs.min():,.2f} over its life, "
            "annotation and inference included: raise it, or lower annotation_price, documents or queries."
        )
    return own


def best_splits(study: Study, found: AnnotationLaws) -> pd.DataFrame:
    """Return the best size and annotations for budgets from the cheapest run's cost on, with and without inference.

    Two rows a budget, `inference` True and False. Columns as `laws.split_budget` returns them, with annotations for
    exposure and dollars without intervals; `size_beyond` and `annotations_beyond`, which are in units of the largest
    that were fitted; and `law`, the joint law's status. The budgets reach to a hundred times the dearest run's cost,
    and `annotation_budget` is one of them. No rows without a joint law.

    Raises:
        StudyError: as `annotation_budget` does.
    """
    if found.joint is None:
        return pd.DataFrame()
    own, costs = annotation_budget(study, found), spent_on_designs(study, found)
    budgets = np.union1d(np.geomspace(costs.min(), max(LARGEST * costs.max(), own), ANNOTATION_BUDGETS), own)
    level, data = study.forecasting.level, found.joint.fit.data
    lived, cost = life(study, found), pair_cost(found)
    splits = [
        _split(split_budget(found.joint, cost, spent, budgets, level=level), spent, cost).assign(inference=counted)
        for counted, spent in ((True, lived), (False, lived.without_serving()))
    ]
    table = pd.concat(splits).sort_values(["budget", "inference"], ascending=[True, False], ignore_index=True)
    return table.assign(
        size_beyond=table["size"] / data["N"].max(),
        annotations_beyond=table["annotations"] / data["D"].max(),
        law=found.joint.fit.status,
    )


def _split(best: pd.DataFrame, life: Life, cost: laws.Cost) -> pd.DataFrame:
    """The best sizes and exposures in the words of annotation, every part's dollars beside them."""
    table = best.drop(columns=[name for name in best if name.startswith(life.paid_for)])
    table = table.rename(columns=lambda name: name.replace("exposure", "annotations"))
    dollars = life.costs(cost, table["size"], table["annotations"]).drop(columns="total")
    return table.join(dollars.rename(columns={"serving": "inference"}).add_suffix("_dollars"))
