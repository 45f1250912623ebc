"""What the page 3_fit shows: which laws the fitted rungs follow, and what was sealed."""

import pandas as pd
from IPython.display import HTML

from rankscale_utils import laws
from rankscale_utils.analysis.coefficients import law_coefficients
from rankscale_utils.analysis.fit import Fitted
from rankscale_utils.analysis.forecast import average_forecasts, intervals, new_run_forecasts

from . import prose, tables

# What a law's y∞, A and B are of, by the scale on which it is fitted.
SCALES = {"value": "the metric", "gap": "log of its gap to the best"}


def average_sentence(fitted: list[Fitted]) -> str:
    """Say how the average and its laws fared in the ladder's past, and which laws it rests on."""
    series = pd.DataFrame([one.average.weights for one in fitted]).mean().sort_values(ascending=False)
    rests = ", ".join(f"{name} {weight:.0%}" for name, weight in series.items() if weight >= 0.01)
    past = fitted[0].past
    if past.empty:
        return f"The average rests on these laws: {rests}. No rung could be forecast from two smaller ones."
    table = laws.judged(past).set_index("law")
    ours, unchanged = table.loc["average"], table.loc["no change"]
    often = "Once" if ours["observations"] == 1 else f"{ours['observations']:.0f} times"
    return (
        f"The average rests on these laws: {rests}. {often} a rung could be forecast from smaller ones (once for each "
        f"objective and rung): the average was wrong by {ours['loss']:.1%} in the mean, “no change” by "
        f"{unchanged['loss']:.1%}."
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


def judged_table(fitted: list[Fitted]) -> HTML:
    """Return how every law, their average and “no change” fared in the ladder's past, the best first."""
    if fitted[0].past.empty:
        return HTML("")
    return tables.styled(
        laws.judged(fitted[0].past),
        law="law",
        weight="weight in the average|.0%",
        loss="mean error|.1%",
        observations="observations|d",
    )


def noise_sentence(fitted: list[Fitted]) -> str:
    """Say on which scale noise is taken as even, and how large it was found."""
    rows = [(draws.between_sd, one.average.weights[name]) for one in fitted for name, draws in one.laws.items()]
    noise = pd.DataFrame(rows, columns=["sd", "weight"])
    between = (noise["sd"] * noise["weight"]).sum() / noise["weight"].sum()
    return (
        "Noise is taken as even on the arcsine of a rising metric and on the logarithm of an entropy. There a further "
        f"run of the same rung would lie {between:.3f} from the law (one standard deviation, mean over series)."
    )


def coefficients_table(series: list[Fitted]) -> HTML:
    """Return every averaged law's coefficients and status, a row a fit; a dash where a law has no such coefficient."""
    rows = law_coefficients(series)
    return tables.styled(
        rows.assign(scale=rows["scale"].map(SCALES)),
        objective="objective",
        metric="metric",
        law="law",
        status="status",
        scale="fitted to",
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
    """Return every rung's data law, a row a fit, folded away."""
    rows = [
        fitted.labels | {"rung": rung, "status": fit.status, "r2": fit.r2} | fit.coefficients
        for fitted in series
        for rung, fit in fitted.data.items()
    ]
    table = tables.styled(
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
    return HTML(f'<details class="fold"><summary>{len(rows)} laws</summary>{table.data}</details>')


def sealed_sentence(forecasts: pd.DataFrame) -> str:
    """Say what was sealed, as `prose.seal_sentence` does, and how far the intervals rest on what was known before."""
    rows = average_forecasts(forecasts)
    wider = ((rows["hi_alone"] - rows["lo_alone"]) / (rows["hi"] - rows["lo"])).median()
    width = "as wide" if f"{wider:.1f}" == "1.0" else f"{wider:.1f} times as wide"
    return (
        f"{prose.seal_sentence(forecasts)} Without what is known of other ladders the {rows['level'].iloc[0]:.0%} "
        f"intervals of one new run would be {width} (median)."
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
    rows = average_forecasts(sealed)
    ends = rows[["lo_alone", "hi_alone"]].set_axis(["lo", "hi"], axis="columns")
    return tables.styled(
        rows.assign(alone=intervals(ends)),
        objective="objective",
        **tables.collection_column(sealed),
        metric="metric",
        rung="rung",
        exposure="pairs|,.0f",
        forecast="forecast|.4f",
        interval="interval",
        coverage="on other ladders|.0%",
        past_coverage="in the past|.0%",
        alone="without what is known",
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
        f"held the truth, of {prose.models(runs)}; the median absolute error was "
        f"{(runs['error'] / runs['actual']).abs().median():.1%} of the value."
    )
