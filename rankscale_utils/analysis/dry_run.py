"""A study's later stages, run on its design alone before the first step is trained.

A trained study's rungs, exposures, metrics and settings are known beforehand. Measurements such as they could come out
go through the very functions that will fit, forecast and allocate, so that what can never work is said before the work.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from rankscale_utils.errors import StudyError
from rankscale_utils.measurements.cells import Origin
from rankscale_utils.measurements.checks import validated
from rankscale_utils.measurements.directions import rising
from rankscale_utils.measurements.mean_of_tests import MEAN_OF_TESTS
from rankscale_utils.measurements.table import OWN, check_headline_test, headline, limits
from rankscale_utils.study.study import Study

from .compute import best_at_budgets, budgets_asked, compare_at_equal_compute, compute_exponents, training_costs
from .design import trained_design
from .fit import Fitted, fit_series, rows_of_rungs, with_axes
from .held_out import beside_the_truth, forecast_held_out, past_of_averages
from .left_out import NEEDED_RUNGS, left_out, size_column, without

LIGHT = {"draws": 20}  # enough to run every line
TOKENS = 60  # of a pair, about
EXPONENT = 0.4  # of size and of exposure


def plausible_measurements(study: Study, ladder: dict, references: pd.DataFrame) -> pd.DataFrame:
    """Return measurements as every run of a study could leave them, by a plausible law with a little noise.

    ladder: as in `ladder.json`. references: family, collection, task, metric, random_order and ceiling of all that will
    be measured. A metric that no ranking can change has its one value in every run.
    """
    rng, size = np.random.default_rng(0), study.training.groups.size
    runs = pd.DataFrame(
        [
            {"run": run.name, "family": study.family_of(run.objective), "objective": run.objective, "rung": run.rung,
             "seed": run.seed, "exposure": exposure, **ladder["rungs"][study.family_of(run.objective)][run.rung]}
            for run in study.runs for exposure in ladder["exposures"]
        ]
    )  # fmt: skip
    N, D = runs["params_non_embedding"], runs["exposure"]
    learnt = 1 / (1 + (N / N.median()) ** -EXPONENT + (D / D.median()) ** -EXPONENT)
    runs = runs.assign(learnt=learnt * np.exp(rng.normal(0, 0.01, len(runs))))
    runs = runs.assign(queries=D / size, tokens=TOKENS * D, flops=6.0 * N * TOKENS * D, score=OWN, excluded="")
    table = runs.merge(references, on="family")
    best = table["ceiling"].where(table["metric"].map(rising), 0.0)
    table["value"] = table["random_order"] + (best - table["random_order"]) * table["learnt"]
    return validated(table.drop(columns="learnt"), Origin("the design"))


def rehearse(study: Study, ladder: dict, references: pd.DataFrame) -> list[str]:
    """Run what follows training on `plausible_measurements`, and return what will be left out, a sentence each.

    Raises:
        StudyError: the study could never be forecast; one sentence names field, value and remedy.
    """
    check_sizes(study, ladder)
    check_names(study, references)
    table = plausible_measurements(study, ladder, references)
    fitted = table[~table["rung"].isin(study.held_out.rungs)]
    absent = left_out(fitted, study.forecasting)
    wanted = list(study.forecasting.metrics) or list(table["metric"].unique())
    table = without(table[table["metric"].isin(wanted)], absent)
    if table.empty:
        reasons = "; ".join(absent.loc[absent["metric"].isin(wanted), "reason"].unique())
        raise StudyError(f"forecasting.metrics = {wanted}: nothing can be forecast, as {reasons}: name other metrics.")
    said = [
        f"{row['metric']} on {row['collection']}: {row['reason']}"
        for _, row in absent[absent["metric"].isin(wanted)].drop_duplicates(["metric", "collection", "task"]).iterrows()
    ]
    try:
        return said + list(_rehearsed(study, ladder, _few(table)))
    except Exception as error:  # whatever it is, it would end the study after all training
        raise StudyError(_refusal(study, error)) from error


def _few(table: pd.DataFrame) -> pd.DataFrame:
    """Return each family's first objective on the first collection by one metric of each direction: enough to see."""
    keys = ["family", "task", table["metric"].map(rising)]
    first = [table.groupby(keys)[name].transform("first") == table[name] for name in ("objective", "metric")]
    return table[first[0] & first[1] & (table["collection"] == table["collection"].iloc[0])]


def _rehearsed(study: Study, ladder: dict, table: pd.DataFrame) -> Iterator[str]:
    """Fit, forecast, score and allocate, and yield what has nothing to say."""
    settings = study.forecasting.model_copy(update=LIGHT)
    held_out = table["rung"].isin(study.held_out.rungs)
    series = fit_series(table[~held_out], settings)
    design = trained_design(study, ladder, series)
    made = forecast_held_out(series, design, settings)
    beside_the_truth(pd.concat(made, ignore_index=True), rows_of_rungs(table, study.held_out.rungs, settings))
    if past_of_averages(series).empty:
        yield "the ladder's own past, and how often its intervals held: that takes four fitted rungs or more"
    yield from _allocated(study, series, with_axes(table, settings))


def _allocated(study: Study, series: list[Fitted], table: pd.DataFrame) -> Iterator[str]:
    costs = training_costs(table, study.allocation.tokens_per_pair)[0]
    level = study.forecasting.level
    if best_at_budgets(series, costs, budgets_asked(table, costs), level).empty:
        yield (
            "how to divide a budget between size and exposure: a joint law needs three exposures or more of every run "
            f"(training.exposures = {list(study.training.exposures)}, forecasting.checkpoints = "
            f"{study.forecasting.checkpoints}, forecasting.burn_in = {study.forecasting.burn_in:g})"
        )
    else:
        compute_exponents(series, costs, level)
        compare_at_equal_compute(series, table, costs)


def check_sizes(study: Study, ladder: dict) -> None:
    """Make sure that the fitted rungs have sizes enough.

    Raises:
        StudyError: they have not.
    """
    fitted = [rung for rung in study.ladder if rung not in study.held_out.rungs]
    column = size_column(study.forecasting)
    for family, rungs in ladder["rungs"].items():
        sizes = sorted({rungs[rung][column] for rung in fitted})
        if len(sizes) < NEEDED_RUNGS:
            said = f"{len(sizes)} size{'s' * (len(sizes) > 1)} ({column} {', '.join(f'{size:,}' for size in sizes)})"
            raise StudyError(
                f"ladder: the fitted rungs {', '.join(fitted)} of the {family} have {said}, but a size law needs "
                f"{NEEDED_RUNGS}: give them other shapes, or hold out fewer."
            )


def check_names(study: Study, references: pd.DataFrame) -> None:
    """Make sure that what the study names will be measured.

    Raises:
        StudyError: it will not, or a wanted value is beyond what its metric can be.
    """
    settings, known = study.forecasting, list(references["metric"].unique())
    tests = [*references["collection"], *[MEAN_OF_TESTS] * settings.mean_of_tests]
    check_headline_test(settings.headline_test, tests)
    if unknown := [metric for metric in settings.metrics if metric not in known]:
        raise StudyError(
            f"forecasting.metrics {unknown} will not be measured: name some of {', '.join(known)}, or add them to "
            "evaluation.metrics."
        )
    shown = settings.metrics or known
    if settings.headline is not None and settings.headline not in shown:
        raise StudyError(f"forecasting.headline = {settings.headline!r} will not be forecast: name one of {shown}.")
    metric = headline(study, pd.DataFrame({"metric": shown}))
    rises, ceiling = (
        rising(metric, settings.directions),
        references.loc[references["metric"] == metric, "ceiling"].max(),
    )
    high = limits(rises, ceiling)[1]
    if (wanted := study.allocation.wanted) is not None and wanted >= high:
        raise StudyError(
            f"allocation.wanted = {wanted:g}: {metric} of these candidates stays below {high:.4g}, a perfect "
            "reranking's: lower it, or give it as a share, not in percent."
        )


def _refusal(study: Study, error: Exception) -> str:
    """Return one sentence on a design that later stages cannot work on."""
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    given = study.forecasting.model_dump(exclude_defaults=True, exclude={"draws", "level"})
    settings = "".join(f", forecasting.{name} = {value}" for name, value in given.items())
    rungs = [rung for rung in study.ladder if rung not in study.held_out.rungs]
    return (
        f"{study.name} would end after all training, as its design can never be fitted and forecast: {reason}. Change "
        f"what is fitted: {len(rungs)} rungs ({', '.join(rungs)}), training.exposures = "
        f"{list(study.training.exposures)}{settings}."
    )
