"""What annotated pairs are worth: their laws by source and by size, the sealed forecast, and the best use of a budget.

Every run on annotated pairs has one measurement, at its own end; D counts its annotated pairs throughout.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from rankscale_utils import laws
from rankscale_utils.allocations import MORE_TRAINING
from rankscale_utils.files import digest, whole_file
from rankscale_utils.fits import with_axes
from rankscale_utils.laws.annotations import by_source, worth
from rankscale_utils.laws.coverage import coverage
from rankscale_utils.laws.forecasting import KINDS
from rankscale_utils.laws.lifetime import Life, best_split
from rankscale_utils.measurements import front, read_runs, usable
from rankscale_utils.study import Run, Study, StudyError

AXES = {"size": "N", "exposure": "D"}
HUMAN = "human"
BUDGETS = 7
LARGEST = 100  # times what the dearest measured run costs: the largest budget
NAMED = ["rung", "params", "params_non_embedding", "N"]
SEALED = ["objective", "metric", "collection", "source", *NAMED, "annotations", "D"]


@dataclass(frozen=True)
class AnnotationLaws:
    """The laws of the fitted runs on annotated pairs, and what they were fitted to.

    table: a row a run. sources: a data law of every source, on the last rung; rungs: a data law of human pairs on every
    rung. joint: Kaplan's law of size and human pairs, or None where they were trained on one rung alone.
    """

    table: pd.DataFrame
    sources: dict[str, laws.Draws]
    rungs: dict[str, laws.Draws]
    joint: laws.Draws | None

    @property
    def human(self) -> pd.DataFrame:
        """The rows of human pairs, on every rung."""
        return self.table[self.table["source"] == HUMAN]

    @property
    def data_sha256(self) -> str:
        """SHA-256 of the measurements that forecasts are made from."""
        found = [*self.rungs.values(), *([self.joint] if self.joint else [])]
        return digest([draws.fit.data_sha256 for draws in found])


def measured(study: Study, runs: Sequence[Run]) -> pd.DataFrame:
    """Return the contrastive entropy of runs on annotated pairs, a row a run that did not fail, with N and D.

    Raises:
        StudyError: a run has not been evaluated, or all of them failed.
    """
    table = usable(read_runs(study, runs))
    table = front(table[table["metric"] == study.evaluation.entropy])
    if table.empty:
        raise StudyError(
            f"none of {len(runs)} runs on annotated pairs left a usable {study.evaluation.entropy}: lower the "
            "learning rate, for they diverged."
        )
    return with_axes(table, study).assign(D=table["annotations"].astype(float)).reset_index(drop=True)


def fit_annotations(study: Study) -> AnnotationLaws:
    """Fit the data law of every source and rung and the joint law; the held-out runs' files are not opened.

    Raises:
        StudyError: no run on human pairs of the last rung left a measurement.
    """
    table = measured(study, study.fitted_annotation_runs)
    last = table[table["rung"] == study.annotations.rungs[-1]]
    if HUMAN not in set(last["source"]):
        raise StudyError(
            f"annotations.rungs: no run on human pairs of {study.annotations.rungs[-1]} left a measurement, so no "
            "source can be compared with them: lower its learning rate."
        )
    law, settings = laws.data_law(rising=False), {"draws": study.forecasting.draws, "size": "N", "annotations": "D"}
    sources = by_source(law, dict(list(last.groupby("source", sort=False))), **settings)
    human = table[table["source"] == HUMAN]
    rungs = by_source(law, dict(list(human.groupby("rung", sort=False))), **settings)
    joint = None
    if len(rungs) > 1:
        joint = by_source(laws.kaplan_law(rising=False), {HUMAN: human}, **settings)[HUMAN]
    return AnnotationLaws(table, sources, rungs, joint)


def joint_status(found: AnnotationLaws) -> str:
    """Return the joint law's status, or why there is none."""
    if found.joint is None:
        return "absent: human pairs were trained on one rung alone; name two or, better, three annotations.rungs"
    return found.joint.fit.status


def forecasts(study: Study, found: AnnotationLaws) -> pd.DataFrame:
    """Forecast every rung's entropy on the most human pairs: by the joint law and by the rung's own data law.

    Columns as `laws.forecast` returns them, `coverage` in simulated studies, and persistence, which is “no change from
    the most human pairs that were fitted”.
    """
    tables, level, simulations = [], study.forecasting.level, study.forecasting.simulations
    for place, (rung, draws) in enumerate(found.rungs.items()):
        mine = found.human[found.human["rung"] == rung]
        most = mine[mine["D"] == mine["D"].max()]
        count = study.annotations.counts[-1]
        at = most[SEALED].iloc[[0]].assign(annotations=count, D=float(count))
        for one in [found.joint, draws] if found.joint else [draws]:
            made = laws.forecast(one, at, level=level, **AXES)
            held = coverage(one, at, level=level, simulations=simulations, seed=place, **AXES)
            shares = [float(held[kind][0]) for kind in KINDS]
            tables.append(made.assign(persistence=most["value"].mean(), coverage=shares))
    return pd.concat(tables, ignore_index=True).assign(simulations=simulations)


def sealed_file(study: Study) -> Path:
    """Where a study's sealed forecasts of the most annotations lie."""
    return study.folder / "sealed_annotations.csv"


def held_out_runs(study: Study) -> list[Run]:
    """Return the runs on annotated pairs that no fit may see."""
    fitted = study.fitted_annotation_runs
    return [run for run in study.annotation_runs if run not in fitted]


def seal(study: Study) -> pd.DataFrame:
    """Write `sealed_annotations.csv`, the forecasts of the held-out runs on annotated pairs, and return it.

    The seal holds the hash of the measurements that were fitted, the time, and whether anything of the held-out runs
    had been trained by then (`truth_existed`).
    """
    found = fit_annotations(study)
    existed = any((study.run_folder(run) / "ledger.json").exists() for run in held_out_runs(study))
    made = forecasts(study, found).assign(truth_existed=existed)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return laws.seal_forecasts(sealed_file(study), made, found.data_sha256, now)


def score(study: Study, found: AnnotationLaws) -> pd.DataFrame:
    """Open the held-out runs, score the sealed forecasts, write them to `annotations.csv` and return them.

    To the sealed columns come actual, error, relative_error, covered, skill and, for one new run, hit: whether every
    new run fell inside.

    Raises:
        SealBroken: the forecasts, or the measurements that they were made from, are not what was sealed.
    """
    sealed = laws.open_sealed(sealed_file(study))
    if sealed["data_sha256"].iloc[0] != found.data_sha256:
        raise laws.SealBroken(
            f"{sealed_file(study)} was sealed on other measurements than those of the fitted runs now; run 3_fit again"
        )
    scored = laws.score(sealed, measured(study, held_out_runs(study)), **AXES)
    scored = scored.assign(hit=(scored["covered"] == 1).where(scored["covered"].notna()))
    with whole_file(study.folder / "annotations.csv") as temporary:
        scored.to_csv(temporary, index=False)
    return scored


def chosen(scored: pd.DataFrame) -> pd.DataFrame:
    """Return the forecasts of one new run that are spoken of: the joint law's, or the data laws' where it is absent."""
    rows = scored[scored["kind"] == "new_run"]
    joint = rows[rows["law"] == "Kaplan"]
    return joint if len(joint) else rows


def worth_of_pairs(study: Study, found: AnnotationLaws) -> pd.DataFrame:
    """Return how many pairs of each other source equal one human pair, at what the fitted numbers of human pairs reach.

    Columns as in `laws.annotations.worth`; `beyond` is the source's pairs in units of the most that were measured, and
    `law` the status of the law, of the two, that is the less to be believed. No rows where the study has human pairs
    alone.
    """
    human = found.sources[HUMAN].fit
    table = worth(found.sources, human.predict(D=np.unique(human.data["D"])), level=study.forecasting.level)
    if table.empty:
        return table
    most = {source: draws.fit.data["D"].max() for source, draws in found.sources.items()}
    law = {source: least_believed([draws.fit.status, human.status]) for source, draws in found.sources.items()}
    return table.assign(beyond=table["pairs"] / table["source"].map(most), law=table["source"].map(law))


def least_believed(statuses: Iterable[str]) -> str:
    """Return the first status of a law that is not converged, or converged where all are."""
    return max(statuses, key=lambda status: status != "converged")


def source_curves(study: Study, found: AnnotationLaws) -> pd.DataFrame:
    """Return every source's data law as a line with the band of its mean: columns source, D, forecast, lo, hi."""
    return _curves(study, {source: (draws, draws) for source, draws in found.sources.items()}, "source")


def rung_curves(study: Study, found: AnnotationLaws) -> pd.DataFrame:
    """Return the joint law at every rung, or the rung's own law without one: columns rung, D, forecast, lo, hi."""
    return _curves(study, {rung: (found.joint or draws, draws) for rung, draws in found.rungs.items()}, "rung")


def _curves(study: Study, drawn: dict[str, tuple[laws.Draws, laws.Draws]], column: str) -> pd.DataFrame:
    """Lines of laws over the annotations, by what `column` names: the law, and whose size it is drawn at."""
    counts, tables = np.geomspace(study.annotations.counts[0], study.annotations.counts[-1], 40), []
    for name, (draws, own) in drawn.items():
        at = pd.DataFrame({"N": own.fit.data["N"].iloc[0], "D": counts}).assign(**{column: name})
        made = laws.forecast(draws, at, level=study.forecasting.level, **AXES)
        tables.append(made[made["kind"] == "mean_law"])
    return pd.concat(tables, ignore_index=True)


def training_cost(found: AnnotationLaws) -> laws.Cost:
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
        exposure=float(exposure),
        epochs=float(epochs),
        texts=given.queries + given.documents,
    )


def spent(study: Study, found: AnnotationLaws) -> pd.Series:
    """Return the dollars that each fitted design of size and human pairs costs over its life, inference included."""
    designs = found.joint.fit.data[["N", "D"]].drop_duplicates()
    return life(study, found).costs(training_cost(found), designs["N"], designs["D"])["total"]


def budget(study: Study, found: AnnotationLaws) -> float:
    """Return the dollars that sentences speak of: the study's own, or ten times what the dearest run costs.

    Raises:
        StudyError: the study's own is less than the cheapest measured run costs.
    """
    own, costs = study.allocation.budget, spent(study, found)
    if own is None:
        return float(MORE_TRAINING * costs.max())
    if own < costs.min():
        raise StudyError(
            f"allocation.budget = {own:g}: the cheapest measured run costs ${costs.min():,.2f} over its life, "
            "annotation and inference included: raise it, or lower annotation_price, documents or queries."
        )
    return own


def budget_table(study: Study, found: AnnotationLaws) -> pd.DataFrame:
    """Return the best size and annotations for budgets from the cheapest run's cost on, with and without inference.

    Columns as `laws.lifetime.best_split` returns them, `size_beyond` and `annotations_beyond`, which are in units of
    the largest that were fitted, and `law`, the joint law's status. The budgets reach to a hundred times the dearest
    run's cost, and `budget` is one of them. No rows without a joint law.

    Raises:
        StudyError: as `budget` does.
    """
    if found.joint is None:
        return pd.DataFrame()
    own, costs = budget(study, found), spent(study, found)
    budgets = np.union1d(np.geomspace(costs.min(), max(LARGEST * costs.max(), own), BUDGETS), own)
    level, data = study.forecasting.level, found.joint.fit.data
    table = best_split(found.joint, training_cost(found), life(study, found), budgets, level=level)
    return table.assign(
        size_beyond=table["size"] / data["N"].max(),
        annotations_beyond=table["annotations"] / data["D"].max(),
        law=found.joint.fit.status,
    )
