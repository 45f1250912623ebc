"""What annotated pairs are worth: the sealed forecast of the most of them, and all that 7_annotations shows."""

from dataclasses import dataclass
from functools import partial

import pandas as pd

from rankscale_utils import laws
from rankscale_utils.errors import StudyError
from rankscale_utils.laws import KINDS, compare_exponents, coverage
from rankscale_utils.study import paths
from rankscale_utils.study.ledger import traces
from rankscale_utils.study.study import Study

from .annotated_budgets import best_splits
from .annotation_laws import (
    SIZE_AND_PAIRS,
    AnnotationLaws,
    annotated_measurements,
    coefficients_of_laws,
    fit_annotations,
    held_out_runs,
    worth_of_pairs,
)
from .results import write_table
from .sealing import Basis, open_seal, seal_once

NAMED = ["rung", "params", "params_non_embedding", "N"]
SEALED = ["objective", "metric", "collection", "task", "source", *NAMED, "annotations", "D"]


@dataclass(frozen=True)
class AnnotationResults:
    """What a study's runs on annotated pairs say.

    found: the laws of the fitted runs. scored: the sealed forecasts beside the truth; truth: the held-out runs'
    measurements. The other tables are described in `docs/results.md`, under the names of their files.
    """

    found: AnnotationLaws
    scored: pd.DataFrame
    truth: pd.DataFrame
    coefficients: pd.DataFrame
    exponents: pd.DataFrame
    worth: pd.DataFrame
    budgets: pd.DataFrame


def analyse_annotations(study: Study) -> AnnotationResults:
    """Fit the runs on annotated pairs, score the sealed forecasts, write every answer as a table and return them.

    Raises:
        SealBroken: the forecasts, or what they rest on, are not what was sealed.
        StudyError: the study has no annotations, a run has not been evaluated or all failed, or the study's budget pays
            for no run.
    """
    if not study.annotations:
        raise StudyError(
            f"study {study.name} has no annotations: give it some, or choose a study that has, such as dense."
        )
    found = fit_annotations(study)
    results = AnnotationResults(
        found,
        scored=score_annotations(study, found),
        truth=annotated_measurements(study, held_out_runs(study)),
        coefficients=coefficients_of_laws(study, found),
        exponents=compare_exponents(found.sources, level=study.forecasting.level),
        worth=worth_of_pairs(study, found),
        budgets=best_splits(study, found),
    )
    for name, file in paths.ANNOTATION_FILES.items():
        write_table(file(study.folder), getattr(results, name))
    return results


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


def seal_annotations(study: Study) -> pd.DataFrame:
    """Seal the forecasts of the held-out runs on annotated pairs, once, and return them.

    See `sealing`: the seal holds what they rest on, the time, and whether anything of the held-out runs had been
    trained by then (`truth_existed`).
    """
    found = fit_annotations(study)
    trained = any(traces(study.run_folder(run)) for run in held_out_runs(study))
    existed = trained or paths.annotations_file(study.folder).exists()
    make = partial(forecast_annotations, study, found)
    return seal_once(paths.sealed_annotations_file(study.folder), _basis(study, found), make, existed, study.time_stamp)


def _basis(study: Study, found: AnnotationLaws) -> Basis:
    return Basis.of(study, found.data_sha256, held_out_runs(study))


def score_annotations(study: Study, found: AnnotationLaws) -> pd.DataFrame:
    """Open the held-out runs, score the sealed forecasts and return them.

    To the sealed columns come actual, error, relative_error, covered, skill and, for one new run, hit: whether every
    new run fell inside.

    Raises:
        SealBroken: the forecasts, or what they rest on, are not what was sealed.
    """
    sealed = open_seal(paths.sealed_annotations_file(study.folder), _basis(study, found))
    scored = laws.score_forecasts(sealed, annotated_measurements(study, held_out_runs(study)), **SIZE_AND_PAIRS)
    return scored.assign(hit=(scored["covered"] == 1).where(scored["covered"].notna()))


def spoken_of(scored: pd.DataFrame) -> pd.DataFrame:
    """Return the forecasts of one new run that are spoken of: the joint law's, or the data laws' where it is absent."""
    rows = scored[scored["kind"] == "new_run"]
    joint = rows[rows["law"] == "Kaplan"]
    return joint if len(joint) else rows
