"""What annotated pairs are worth: their laws by source and by size, the sealed forecast, and the best use of a budget.

Every run on annotated pairs has one measurement, at its own end; D counts its annotated pairs throughout.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from rankscale_utils import laws
from rankscale_utils.errors import StudyError
from rankscale_utils.laws import KINDS, coverage, draws_by_source, worth_in_pairs
from rankscale_utils.machine.files import digest, whole_file
from rankscale_utils.measurements.reading import read_runs
from rankscale_utils.measurements.table import first_collection, measured_rows
from rankscale_utils.study import paths
from rankscale_utils.study.study import Run, Study

from .fit import with_axes
from .sealing import SealBroken, read_sealed, seal_forecasts

SIZE_AND_PAIRS = {"size": "N", "exposure": "D"}
HUMAN = "human"
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


def annotated_measurements(study: Study, runs: Sequence[Run]) -> pd.DataFrame:
    """Return the contrastive entropy of runs on annotated pairs, a row a run that did not fail, with N and D.

    Raises:
        StudyError: a run has not been evaluated, or all of them failed.
    """
    table = measured_rows(read_runs(study, runs))
    table = first_collection(table[table["metric"] == study.evaluation.entropy])
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
    table = annotated_measurements(study, study.fitted_annotation_runs)
    last = table[table["rung"] == study.annotations.rungs[-1]]
    if HUMAN not in set(last["source"]):
        raise StudyError(
            f"annotations.rungs: no run on human pairs of {study.annotations.rungs[-1]} left a measurement, so no "
            "source can be compared with them: lower its learning rate."
        )
    law, settings = laws.data_law(rising=False), {"draws": study.forecasting.draws, "size": "N", "annotations": "D"}
    sources = draws_by_source(law, dict(list(last.groupby("source", sort=False))), **settings)
    human = table[table["source"] == HUMAN]
    rungs = draws_by_source(law, dict(list(human.groupby("rung", sort=False))), **settings)
    joint = None
    if len(rungs) > 1:
        joint = draws_by_source(laws.kaplan_law(rising=False), {HUMAN: human}, **settings)[HUMAN]
    return AnnotationLaws(table, sources, rungs, joint)


def joint_status(found: AnnotationLaws) -> str:
    """Return the joint law's status, or why there is none."""
    if found.joint is None:
        return "absent: human pairs were trained on one rung alone; name two or, better, three annotations.rungs"
    return found.joint.fit.status


def forecast_annotations(study: Study, found: AnnotationLaws) -> pd.DataFrame:
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
            made = laws.forecast(one, at, level=level, **SIZE_AND_PAIRS)
            held = coverage(one, at, level=level, simulations=simulations, seed=place, **SIZE_AND_PAIRS)
            shares = [float(held[kind][0]) for kind in KINDS]
            tables.append(made.assign(persistence=most["value"].mean(), coverage=shares))
    return pd.concat(tables, ignore_index=True).assign(simulations=simulations)


def held_out_runs(study: Study) -> list[Run]:
    """Return the runs on annotated pairs that no fit may see."""
    fitted = study.fitted_annotation_runs
    return [run for run in study.annotation_runs if run not in fitted]


def seal_annotations(study: Study) -> pd.DataFrame:
    """Write `sealed_annotations.csv`, the forecasts of the held-out runs on annotated pairs, and return it.

    The seal holds the hash of the measurements that were fitted, the time, and whether anything of the held-out runs
    had been trained by then (`truth_existed`).
    """
    found = fit_annotations(study)
    existed = any((paths.ledger_file(study.run_folder(run))).exists() for run in held_out_runs(study))
    made = forecast_annotations(study, found).assign(truth_existed=existed)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return seal_forecasts(paths.sealed_annotations_file(study.folder), made, found.data_sha256, now)


def score_annotations(study: Study, found: AnnotationLaws) -> pd.DataFrame:
    """Open the held-out runs, score the sealed forecasts, write them to `annotations.csv` and return them.

    To the sealed columns come actual, error, relative_error, covered, skill and, for one new run, hit: whether every
    new run fell inside.

    Raises:
        SealBroken: the forecasts, or the measurements that they were made from, are not what was sealed.
    """
    sealed = read_sealed(paths.sealed_annotations_file(study.folder))
    if sealed["data_sha256"].iloc[0] != found.data_sha256:
        raise SealBroken(
            f"{paths.sealed_annotations_file(study.folder)} was sealed on other measurements than those of the "
            "fitted runs now; run 3_fit again"
        )
    scored = laws.score_forecasts(sealed, annotated_measurements(study, held_out_runs(study)), **SIZE_AND_PAIRS)
    scored = scored.assign(hit=(scored["covered"] == 1).where(scored["covered"].notna()))
    with whole_file(paths.annotations_file(study.folder)) as temporary:
        scored.to_csv(temporary, index=False)
    return scored


def spoken_of(scored: pd.DataFrame) -> pd.DataFrame:
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
    table = worth_in_pairs(found.sources, human.predict(D=np.unique(human.data["D"])), level=study.forecasting.level)
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
        made = laws.forecast(draws, at, level=study.forecasting.level, **SIZE_AND_PAIRS)
        tables.append(made[made["kind"] == "mean_law"])
    return pd.concat(tables, ignore_index=True)
