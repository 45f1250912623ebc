"""The first screen of a study: what the large model will score, whether to believe it, and where to spend."""

from typing import NamedTuple

import pandas as pd

from rankscale_utils.analysis.forecast import average_forecasts
from rankscale_utils.laws import INSIDE
from rankscale_utils.measurements.directions import rising
from rankscale_utils.measurements.mean_of_tests import MEAN_OF_TESTS
from rankscale_utils.measurements.table import labelled, on_headline_test
from rankscale_utils.study.study import Study

from .allocate import share_of_data, where_it_lies, why_undecided
from .next_runs import NOTHING_NARROWS, run_in_words
from .prose import counted, listed, models
from .tables import test_of

FAVOURED = {"size": "Into a larger model", "data": "Into more training data", "both": "Into both alike"}

OF_B = "Training data should grow as compute to the power b: above a half, faster than the model."


class Tile(NamedTuple):
    """A question, its answer in a few words, and sentences below it; mood: good, bad or open."""

    question: str
    answer: str
    sentences: list[str]
    mood: str = "open"


def tiles(study: Study, scored: pd.DataFrame, metric: str, tables: dict[str, pd.DataFrame]) -> list[Tile]:
    """Return the three tiles of a study that forecasts.

    scored: all scored forecasts; tables: exponents, within_budget and next_runs of 5_allocate, on_tests, verdicts of
    `analysis.predictability` and the ladder's past, by name.
    """
    rows = average_forecasts(on_headline_test(scored[scored["metric"] == metric], study.headline_test))
    rows = rows[rows["params"] == rows["params"].max()]
    rows = rows.sort_values("forecast", ascending=not rising(metric, study.forecasting.directions), kind="stable")
    return [
        _forecast_tile(rows, metric),
        _trust_tile(study, rows, scored, metric, tables),
        _spending_tile(study, metric, tables),
    ]


def _forecast_tile(rows: pd.DataFrame, metric: str) -> Tile:
    """Say what the largest held-out rung was forecast to score, the best objective first, and how far to trust that."""
    best, others = rows.iloc[0], rows.iloc[1:]
    held = best["coverage"]
    often = f" Such intervals held the truth {100 * held:.0f} times in 100 on ladders of others."
    ends = f"{best['level']:.0%} interval {best['interval']} for one new run."
    said = [f"{metric} on {test_of(rows)}, {ends}{often if held == held else ''}"]
    if pd.notna(best["actual"]):
        said.append(f"Measured since: {best['actual']:.4f}, {'inside' if best['hit'] else 'outside'} the interval.")
    if len(others):
        also = listed(f"{row['objective']} {row['forecast']:.4f}" for _, row in others.iterrows())
        said.append(f"Other objectives: {also}.")
    question = f"What will {best['rung']} score, trained {best['objective']}?"
    return Tile(question, f"{best['forecast']:.4f}", said, _mood(best["hit"] if pd.notna(best["actual"]) else None))


def _mood(good: bool | None) -> str:
    return "open" if good is None else "good" if good else "bad"


def _trust_tile(
    study: Study, rows: pd.DataFrame, scored: pd.DataFrame, metric: str, tables: dict[str, pd.DataFrame]
) -> Tile:
    """Say whether to believe the forecasts: their intervals, “no change”, P0, and the first stage."""
    every = average_forecasts(scored)
    every = every[every["actual"].notna()]
    opened = rows[rows["actual"].notna()]
    if opened.empty:
        return Tile("Can it be believed?", "Not tested yet", ["The held-out rungs left nothing to compare with."])
    mine = on_headline_test(every[every["metric"] == metric], study.headline_test)
    nearer, beaten = int((mine["skill"] >= 0).sum()), int((mine["skill_to_p0"] >= 0).sum())
    held, trend = every["hit"].mean() >= every["level"].iloc[0] - 0.1, 2 * nearer > len(mine)
    answer = {
        (True, True): "Yes: interval and trend held",
        (True, False): "The interval, not the trend",
        (False, True): "The trend, not the interval",
        (False, False): "No: neither held",
    }[held, trend]
    said = [
        f"Intervals held in {counted(every['hit'].sum(), len(every), 'forecast')} of all metrics and tests, of "
        f"{models(every)}{_past(tables['past'])}.",
        f"Nearer than “no change” in {counted(nearer, len(mine), 'forecast')} of {metric} on {test_of(rows)}, and than "
        f"P0 in {counted(beaten, len(mine), 'forecast')}.",
        *_above_first_stage(tables["on_tests"]),
    ]
    mood = True if held and trend else False if not held else None
    if unpredictable := _unpredictable(study, tables["verdicts"], metric):
        answer = answer.replace("Yes:", f"Yes, for {rows['objective'].iloc[0]}:")
        said.append(f"Not predictable from these runs: {listed(unpredictable)}, see below.")
    if rows["objective"].iloc[0] in unpredictable and held:
        answer, mood = "It held, though these runs could not tell", None
    return Tile("Can it be believed?", answer, said, _mood(mood))


def _unpredictable(study: Study, verdicts: pd.DataFrame, metric: str) -> list[str]:
    """Return the objectives whose metric cannot be forecast from their runs at all."""
    rows = verdicts[verdicts["metric"] == metric] if len(verdicts) else verdicts
    rows = on_headline_test(rows, study.headline_test)
    return rows.loc[~rows["predictable"].astype(bool), "objective"].tolist() if len(rows) else []


def _past(past: pd.DataFrame) -> str:
    """Say how many of the ladder's own past intervals held the truth, after a semicolon; or nothing.

    past: from `analysis.held_out.past_of_averages`.
    """
    if past.empty:
        return ""
    runs = past[past["kind"] == "new_run"]
    return f"; in the ladder's own past {counted(runs['covered'].astype(float).sum(), len(runs))}, of {models(runs)}"


def _above_first_stage(on_tests: pd.DataFrame) -> list[str]:
    """Count the models that rank above the order as retrieved, on every test; or nothing."""
    rows = rows_with_first_stage(on_tests)
    if rows.empty:
        return []
    tests = labelled(rows).groupby("collection", sort=False)
    said = listed(f"{counted(above(of_test).sum(), len(of_test), 'model')} on {name}" for name, of_test in tests)
    return [f"Above the first stage: {said}."]


def rows_with_first_stage(on_tests: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of tests whose order as retrieved is known; the tests' mean, which has no queries, is none."""
    if "first_stage" not in on_tests:
        return on_tests.iloc[:0]
    return on_tests[on_tests["first_stage"].notna() & on_tests["collection"].ne(MEAN_OF_TESTS)]


def against_first_stage(on_tests: pd.DataFrame, test: str | None = None) -> list[str]:
    """Say how many models rank above the order as retrieved, on the headline test and on the others; or nothing.

    on_tests: from `analysis.on_tests`; test: as in `on_headline_test`. A model counts as above by the
    whole paired interval, where there is one.
    """
    rows = rows_with_first_stage(on_tests)
    if rows.empty:
        return []
    first = on_headline_test(rows, test)
    best = first.loc[first["value"].idxmax()]
    said = [_above(first, test_of(first), best)]
    others = rows.drop(first.index)
    if len(others):
        names = labelled(others).groupby("collection", sort=False)
        better = [name for name, of_test in names if above(of_test).any()]
        count = names.ngroups
        if better:
            on = counted(len(better), count, "other test")
            said.append(f"Some model is better than it on {on}: {listed(better)}.")
        else:
            said.append(f"On the {f'{count} other tests' if count > 1 else 'other test'} no model is better than it.")
    return [" ".join(said)]


def above(rows: pd.DataFrame) -> pd.Series:
    """Whether each row is above the order as retrieved, by its whole interval where there is one."""
    return rows["over_first_stage_lo"].fillna(rows["over_first_stage"]) > 0


def _above(rows: pd.DataFrame, test: str, best: pd.Series) -> str:
    better, metric = int(above(rows).sum()), best["metric"]
    model = f"{best['rung']} trained {best['objective']}, {best['value']:.4f}"
    if not better:
        return (
            f"No model here ranks better than the first stage: its own order scores {metric} "
            f"{best['first_stage']:.4f} on {test}, the best of {len(rows)} models, {model}."
        )
    return (
        f"{counted(better, len(rows), 'model')} rank better than the first stage, whose own order scores {metric} "
        f"{best['first_stage']:.4f} on {test}; the best is {model}."
    )


def _spending_tile(study: Study, metric: str, tables: dict[str, pd.DataFrame]) -> Tile:
    """Say whether more compute should go into size or data, or which run would help to tell."""
    question, exponents = "Where to spend?", tables["exponents"]
    rows = exponents[exponents["metric"] == metric] if len(exponents) else exponents
    rows = on_headline_test(rows, study.headline_test)
    if rows.empty:
        why = "No law of size and exposure together could be fitted."
        return Tile(question, "Cannot be told", [why, *_next_run(study, tables["next_runs"])])
    favoured = set(rows["favours"])
    row = rows.iloc[0]
    if len(favoured) == 1 and favoured <= set(FAVOURED):
        whole = f"all of {share_of_data(row)}, {row['objective']}, lies {where_it_lies(row)}"
        why = f"Training data should grow as compute to the power b, and {whole}{_status(row)}."
        return Tile(question, FAVOURED[row["favours"]], [why, *_reach(tables["within_budget"], metric)], "good")
    undecided = rows[rows["favours"] == "undecided"]
    if undecided.empty:
        sides = listed(f"{one['favours']} for {one['objective']}" for _, one in rows.iterrows())
        why = [f"Larger model or more data: objectives differ, {sides}."]
    else:
        row = undecided.iloc[0]
        doubt = f"undecided for {row['objective']}, as {why_undecided(row)}{_status(row)}"
        why = [f"Larger model or more data: {doubt}.", OF_B]
    return Tile(question, "Cannot be told yet", [*why, *_next_run(study, tables["next_runs"])])


def _status(row: pd.Series) -> str:
    return "" if row["law"] == "converged" else f", a law {row['law']}"


def _next_run(study: Study, planned: pd.DataFrame) -> list[str]:
    if planned.empty:
        return [NOTHING_NARROWS]
    first = planned.iloc[0]
    return [
        f"Train this next: {run_in_words(study, first)}. It would narrow the forecast from "
        f"±{first['half_width_now']:.4f} to ±{first['half_width_after']:.4f}."
    ]


def _reach(within: pd.DataFrame, metric: str) -> list[str]:
    """Say where what the budget buys best lies at the end of what these runs tell, or beyond it."""
    rows = within[within["metric"] == metric] if len(within) else within
    ends = rows[rows["status"] != INSIDE] if len(rows) else rows
    return [f"How much of either: the best use of the study's budget is {ends['status'].iloc[0]}."] if len(ends) else []
