"""The laws of runs on annotated pairs, by source and by size, and what they say a pair is worth.

Every run on annotated pairs has one measurement, at its own end; D counts its annotated pairs throughout.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rankscale_utils import laws
from rankscale_utils.errors import StudyError
from rankscale_utils.laws import coefficients_by_source, draws_by_source, worth_in_pairs
from rankscale_utils.machine.files import digest
from rankscale_utils.measurements.reading import read_runs
from rankscale_utils.measurements.table import measured_rows, on_headline_test
from rankscale_utils.study.study import Run, Study

from .fit import with_axes

SIZE_AND_PAIRS = {"size": "N", "exposure": "D"}
HUMAN = "human"


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
    table = on_headline_test(table[table["metric"] == study.evaluation.entropy], study.headline_test)
    if table.empty:
        raise StudyError(
            f"none of {len(runs)} runs on annotated pairs left a usable {study.evaluation.entropy}: lower the "
            "learning rate, for they diverged."
        )
    return with_axes(table, study.forecasting).assign(D=table["annotations"].astype(float)).reset_index(drop=True)


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


def held_out_runs(study: Study) -> list[Run]:
    """Return the runs on annotated pairs that no fit may see."""
    fitted = study.fitted_annotation_runs
    return [run for run in study.annotation_runs if run not in fitted]


def coefficients_of_laws(study: Study, found: AnnotationLaws) -> pd.DataFrame:
    """Return the coefficients of every law of annotated pairs, a row a coefficient.

    Columns by (source, rung or joint: what laws were fitted to), name (of that source or rung) and those of
    `laws.coefficients_by_source`.
    """
    joint = {"joint": found.joint} if found.joint else {}
    tables = [
        coefficients_by_source(drawn, level=study.forecasting.level).rename(columns={"source": "name"}).assign(by=by)
        for by, drawn in (("source", found.sources), ("rung", found.rungs), ("joint", joint))
        if drawn
    ]
    return pd.concat(tables, ignore_index=True)


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
