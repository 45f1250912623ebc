"""What the page 3_fit shows: which laws the fitted rungs follow, and what was sealed."""

import pandas as pd
from IPython.display import HTML

from rankscale_utils import laws
from rankscale_utils.analysis.coefficients import law_coefficients
from rankscale_utils.analysis.fit import Fitted
from rankscale_utils.analysis.forecast import average_forecasts, new_run_forecasts

from . import prose, tables


def choice_sentence(fitted: list[Fitted]) -> str:
    """Say which laws are averaged, and what decided it."""
    table = fitted[0].choice
    best, kept = table.iloc[0], table[table["kept"]]
    spread = (
        f"those within one standard error of {best['candidate']}"
        if best["observations"] > 1
        else "all of them, as one observation tells nothing apart"
    )
    often = "Once" if best["observations"] == 1 else f"{best['observations']} times"
    return (
        f"{often} a rung could be forecast from two or more smaller ones (once for each objective "
        f"and rung). The best candidate, {best['candidate']}, was wrong by {best['loss']:.1%} on average; averaged are "
        f"{spread}: {', '.join(kept['candidate'])}."
    )


def left_out_table(left_out: pd.DataFrame) -> HTML:
    """Return the series that could not be fitted or forecast, each with its reason; nothing where there is none."""
    if left_out.empty:
        return HTML("")
    return tables.styled(
        left_out,
        objective="left out",
        metric="metric",
        **tables.collection_column(left_out),
        reason="because",
        **({"remedy": "what may help"} if left_out["remedy"].any() else {}),
    )


def choice_table(fitted: list[Fitted]) -> HTML:
    """Return every candidate's past, the best first."""
    return tables.styled(
        fitted[0].choice.astype({"kept": object}),
        candidate="candidate",
        loss="mean error|.1%",
        behind="behind the best|.1%",
        doubt="standard error|.1%",
        observations="observations|d",
        kept="averaged",
    )


def noise_sentence(fitted: list[Fitted]) -> str:
    """Say on which scale metrics are fitted, and how even their noise is there."""
    rows = [
        (series.scale, *(laws.unevenness(raw, series.rising, series.limits, scale) for scale in ("value", "gap")))
        for raw, series in ((one.raw, one.average.series) for one in fitted)
        if series.rising
    ]
    table = pd.DataFrame(rows, columns=["scale", "value", "gap"])
    if table.empty or table[["value", "gap"]].isna().any(axis=None):
        return (
            "All series are fitted on the logarithm of the gap to their known limit: runs have too few checkpoints to "
            "see on which scale noise is even."
        )
    gap = (table["scale"] == "gap").mean()
    return (
        f"The noisiest run's checkpoints scatter {table['value'].median():.1f} times as much as the quietest run's on "
        f"the metric's own scale and {table['gap'].median():.1f} times on the logarithm of the gap to the ceiling "
        f"(medians over rising series); {gap:.0%} of these series are fitted on the gap."
    )


def coefficients_table(series: list[Fitted]) -> HTML:
    """Return every averaged law's coefficients and status, a row a fit; a dash where a law has no such coefficient."""
    return tables.styled(
        law_coefficients(series),
        objective="objective",
        metric="metric",
        law="law",
        status="status",
        asymptote="y∞|.4f",
        A="A|.4g",
        alpha="α|.3f",
        B="B|.4g",
        beta="β|.3f",
        r2="R²|.3f",
        between_sd="noise, run|.4f",
        within_sd="noise, checkpoint|.4f",
    )


def data_laws_table(series: list[Fitted]) -> HTML:
    """Return every rung's data law, a row a fit."""
    rows = [
        fitted.labels | {"rung": rung, "status": fit.status, "r2": fit.r2} | fit.coefficients
        for fitted in series
        for rung, fit in fitted.data.items()
    ]
    return tables.styled(
        pd.DataFrame(rows),
        objective="objective",
        metric="metric",
        rung="rung",
        status="status",
        asymptote="y∞|.4f",
        B="B|.4g",
        beta="β|.3f",
        r2="R²|.3f",
    )


def sealed_sentence(forecasts: pd.DataFrame) -> str:
    """Say what was sealed, as `prose.seal_sentence` does, and how far intervals reach."""
    new = average_forecasts(forecasts).iloc[0]
    return (
        f"{prose.seal_sentence(forecasts)} The {new['level']:.0%} intervals of one new run reach {new['reach']:.2f} "
        "standard errors to each side."
    )


def other_queries_sentence(forecasts: pd.DataFrame) -> str:
    """Say how much wider intervals are that must hold on other test queries of the same kind."""
    if "query_lo" not in forecasts:
        return "Values of single queries were not measured here, so intervals hold for these very test queries."
    rows = average_forecasts(forecasts)
    wider = (rows["query_hi"] - rows["query_lo"]) / (rows["hi"] - rows["lo"])
    return (
        "These intervals hold for these very test queries. Had other queries of the same kind been drawn, the same "
        f"for every model, they would be {wider.median():.2f} times as wide (median over forecasts; the most "
        f"{wider.max():.2f}), as the last column says."
    )


def sealed_table(sealed: pd.DataFrame) -> HTML:
    """Return the averages' sealed forecasts of one new run, with intervals on other queries where there are any."""
    return tables.styled(
        average_forecasts(sealed),
        objective="objective",
        **tables.collection_column(sealed),
        metric="metric",
        rung="rung",
        exposure="pairs|,.0f",
        forecast="forecast|.4f",
        interval="interval",
        coverage="in simulation|.0%",
        past_coverage="in the past|.0%",
        **({"query_interval": "on other queries"} if "query_lo" in sealed else {}),
    )


def past_table(backtested: pd.DataFrame) -> HTML:
    """Return the average's forecasts of fitted rungs from smaller ones."""
    return tables.styled(
        new_run_forecasts(backtested),
        objective="objective",
        **tables.collection_column(backtested),
        metric="metric",
        rung="rung",
        rungs_fitted="from rungs|d",
        forecast="forecast|.4f",
        lo="low|.4f",
        hi="high|.4f",
        actual="measured|.4f",
        error="error|+.4f",
        hit="inside",
    )


def past_sentence(backtested: pd.DataFrame) -> str:
    """Say how forecasts made in this way fared within the fitted ladder."""
    if backtested.empty:
        return "The ladder has too few fitted rungs to forecast one of them from the others."
    runs = backtested[backtested["kind"] == "new_run"]
    return (
        f"Forecasting fitted rungs from smaller ones, {runs['covered'].mean():.0%} of {len(runs)} new-run intervals "
        f"held the truth; the median absolute error was {runs['error'].abs().median():.4f}."
    )
