"""What the pages say: facts and sentences computed from the tables, never typed in."""

import pandas as pd

from rankscale_utils.forecasts import Fitted
from rankscale_utils.measurements import headline, rising
from rankscale_utils.study import Study

WORST_SKILL = -10  # beyond it “no change” was right by luck


def run_facts(ledger: dict) -> dict[str, str]:
    """Return what a run is: size, learning rate, cost, hardware."""
    hardware = ledger["hardware"]
    return {
        "status": ledger["status"],
        "objective": ledger["objective"],
        "rung": f"{ledger['rung']}, seed {ledger['seed']}",
        "parameters": f"{ledger['params']:,}, of which {ledger['params_non_embedding']:,} outside the embeddings",
        "learning_rate": f"{ledger['learning_rate']:.3g}",
        "training_FLOPs_a_pair": f"{ledger['flops_per_pair']:,.0f}" if ledger["flops_per_pair"] else "–",
        "speed": f"{ledger['pairs_per_second']:,.0f} pairs/s on {hardware['device']}, {hardware['threads']} thread(s)",
    }


def checkpoints(ledger: dict) -> pd.DataFrame:
    """Return the ledger's checkpoints, a row each."""
    return pd.DataFrame(ledger["checkpoints"])


def training(ledger: dict) -> str:
    """Say how far the loss fell."""
    if not ledger["checkpoints"]:
        return f"The run {ledger['status']}, before its first checkpoint."
    first, last = ledger["checkpoints"][0], ledger["checkpoints"][-1]
    ended = "" if ledger["status"] == "complete" else f" The run {ledger['status']}; no fit uses it."
    return (
        f"From {first['exposure']:,} to {last['exposure']:,} training pairs the {ledger['objective']} loss "
        f"{'fell' if last['loss'] < first['loss'] else 'did not fall: it went'} from {first['loss']:.3f} to "
        f"{last['loss']:.3f} nats.{ended}"
    )


def headlines(study: Study, table: pd.DataFrame) -> list[str]:
    """Return the headline metric and, where measured, the contrastive entropy."""
    entropies = [metric for metric in table["metric"].unique() if not rising(metric)]
    return list(dict.fromkeys([headline(study, table), *entropies[:1]]))


def by_exposure(table: pd.DataFrame) -> pd.DataFrame:
    """Return one run's metrics, a row each, with a column an exposure and the candidates' limits."""
    wide = table.pivot_table(index="metric", columns="exposure", values="value", sort=False)
    wide.columns = [f"at_{int(exposure)}" for exposure in wide.columns]
    limits = table.groupby("metric", sort=False)[["first_stage", "ceiling"]].first()
    return wide.join(limits).reset_index()


def exposure_columns(table: pd.DataFrame) -> dict[str, str]:
    """Return the headings of `by_exposure`."""
    exposures = {f"at_{int(e)}": f"{int(e):,}|.4f" for e in sorted(table["exposure"].unique())}
    return {"metric": "metric"} | exposures | {"first_stage": "first stage|.4f", "ceiling": "ceiling|.4f"}


def evaluation(study: Study, table: pd.DataFrame) -> str:
    """Say what the run's last checkpoint reached, beside its first stage and its ceiling."""
    metric = headline(study, table)
    last = table[table["metric"] == metric].sort_values("exposure").iloc[-1]
    beats = "above" if last["value"] > last["first_stage"] else "below"
    excluded = f" It is excluded from fits: {last['excluded']}." if last["excluded"] else ""
    return (
        f"After {last['exposure']:,.0f} pairs {metric} is {last['value']:.4f}, {beats} BM25's own order "
        f"({last['first_stage']:.4f}); a perfect reranking would reach {last['ceiling']:.4f}.{excluded}"
    )


def fits_table(fitted: list[Fitted]) -> pd.DataFrame:
    """Return every law's coefficients and status, a row a fit."""
    rows = []
    for one in fitted:
        for draws in one.laws.values():
            fit = draws.fit
            noise = {"between_sd": draws.between_sd, "within_sd": draws.within_sd}
            rows.append(one.labels | {"law": fit.law.name, "status": fit.status, "runs": fit.runs, "r2": fit.r2}
                        | fit.coefficients | noise)  # fmt: skip
    return pd.DataFrame(rows)


def data_laws_table(fitted: list[Fitted]) -> pd.DataFrame:
    """Return every rung's data law, a row a fit."""
    rows = [
        one.labels | {"rung": rung, "status": fit.status, "r2": fit.r2} | fit.coefficients
        for one in fitted
        for rung, fit in one.data.items()
    ]
    return pd.DataFrame(rows)


def at_largest_exposure(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Return each law's forecasts of every rung at the largest exposure that it speaks of."""
    largest = forecasts.groupby(["objective", "metric", "collection", "law", "rung"])["exposure"].transform("max")
    return forecasts[forecasts["exposure"] == largest]


def new_run(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Return the forecasts of one new run; where they are scored, `hit` says whether all new runs fell inside.

    `skill_shown` is the skill in words where “no change” was so nearly right that the number means nothing.
    """
    table = forecasts[forecasts["kind"] == "new_run"] if len(forecasts) else forecasts
    if "covered" not in table:
        return table
    skill = [f"{value:+.2f}" if value >= WORST_SKILL else f"below {WORST_SKILL}" for value in table["skill"]]
    return table.assign(hit=[bool(share == 1) for share in table["covered"]], skill_shown=skill)


def sealed(forecasts: pd.DataFrame) -> str:
    """Say what was sealed, when, on which data, and whether the truth could have been known."""
    first = forecasts.iloc[0]
    known = (
        "The held-out measurements existed by then: the fits did not use them, and the seal shows only that the "
        "forecasts were not changed since."
        if first["truth_existed"]
        else "No held-out run had been trained by then."
    )
    return (
        f"{len(forecasts):,} forecasts were sealed at {first['sealed_at']}. {known} SHA-256 of the forecasts: "
        f"{first['sealed_sha256'][:16]}…, of the measurements: {first['data_sha256'][:16]}…."
    )


def past(backtested: pd.DataFrame) -> str:
    """Say how forecasts made in this way fared within the fitted ladder."""
    if backtested.empty:
        return "The ladder has too few fitted rungs to forecast one of them from the others."
    runs = backtested[backtested["kind"] == "new_run"]
    return (
        f"Forecasting fitted rungs from smaller ones, {runs['covered'].mean():.0%} of {len(runs)} new-run intervals "
        f"held the truth; the median absolute error was {runs['error'].abs().median():.4f}."
    )


def forecasting(study: Study, scored: pd.DataFrame) -> str:
    """Say how the headline forecasts did."""
    metric = headline(study, scored)
    rows = scored[(scored["metric"] == metric) & (scored["kind"] == "new_run")]
    last = at_largest_exposure(rows)
    sentences = [
        f"{row['objective']} {row['rung']} ({row['law']} law): forecast {row['forecast']:.4f} "
        f"[{row['lo']:.4f}, {row['hi']:.4f}], measured {row['actual']:.4f}"
        for _, row in last[last["law"] == last["law"].iloc[0]].iterrows()
    ]
    return f"{metric}: {'; '.join(sentences)}. {coverage(scored)}"


def coverage(scored: pd.DataFrame) -> str:
    """Say how often the intervals held the truth, beside how often they should have."""
    runs = scored[(scored["kind"] == "new_run") & scored["covered"].notna()]
    return (
        f"Of all {len(runs)} forecasts, {runs['covered'].mean():.0%} of the new runs fell inside their "
        f"{runs['level'].iloc[0]:.0%} interval (in simulation of this design: {runs['coverage'].mean():.0%})."
    )


def allocation(study: Study, exponents: pd.DataFrame, compared: pd.DataFrame) -> str:
    """Say what ten times the compute should buy for the headline metric, and what following the law would have cost."""
    metric = headline(study, exponents)
    growth = [
        f"{_tenfold(row, 'a')} the parameters and {_tenfold(row, 'b')} the pairs ({row['objective']})"
        for _, row in exponents[exponents["metric"] == metric].iterrows()
    ]
    spent = f"For {metric}, ten times the training FLOPs are best spent on {'; '.join(growth)}."
    rows = compared[compared["metric"] == metric]
    if rows.empty:
        return f"{spent} No budget was spent by two rungs, so the law's pick cannot be checked."
    right = (rows["picked"] == rows["best"]).mean()
    return (
        f"{spent} At {len(rows)} budgets that two rungs or more spent, the law picked the rung that was really best in "
        f"{right:.0%}; its picks lost {rows['regret'].mean():.4f} on average."
    )


def _tenfold(row: pd.Series, exponent: str) -> str:
    times, low, high = (10 ** row[f"{exponent}{end}"] for end in ("", "_lo", "_hi"))
    return f"{times:.1f} [{low:.1f}, {high:.1f}] times"


def speed(table: pd.DataFrame) -> str:
    """Say what the largest rung costs beside the smallest."""
    small, large, metric = table.iloc[0], table.iloc[-1], table["metric"].iloc[0]
    return (
        f"{large['rung']} needs {large['p50_ms'] / small['p50_ms']:.1f} times {small['rung']}'s time for a query's "
        f"{large['depth']} candidates ({large['p50_ms']:.2f} against {small['p50_ms']:.2f} ms) and "
        f"{large['flops_per_pair'] / small['flops_per_pair']:.1f} times its FLOPs; {metric} is {large['value']:.4f} "
        f"against {small['value']:.4f}."
    )


def answer(study: Study, scored: pd.DataFrame, exponents: pd.DataFrame, compared: pd.DataFrame) -> list[str]:
    """Return the sentences that a study's first page opens with: forecast, truth, and how to spend the budget."""
    metric = headline(study, scored)
    rows = at_largest_exposure(new_run(scored[scored["metric"] == metric]))
    law = "joint" if "joint" in rows["law"].to_numpy() else "size"
    sentences = [
        f"{row['rung']} with the {row['objective']} objective was forecast to reach {metric} {row['forecast']:.4f} "
        f"[{row['lo']:.4f}, {row['hi']:.4f}] ({law} law); it reached {row['actual']:.4f}, "
        f"{'inside' if row['hit'] else 'outside'} the interval."
        for _, row in rows[rows["law"] == law].iterrows()
    ]
    return [*sentences, f"{coverage(scored)} {persistence(rows)}", allocation(study, exponents, compared)]


def persistence(rows: pd.DataFrame) -> str:
    """Say how often “no change” was nearer to the truth than these forecasts."""
    nearer = int((rows["skill"] < 0).sum())
    return (
        f"“No change from the largest fitted rung” was nearer to the truth in {nearer} of the {len(rows)} forecasts of "
        f"{rows['metric'].iloc[0]} at the largest exposure, of either law."
    )


def runs_note(study: Study) -> str:
    """Say what the grid of runs is."""
    if not study.runs:
        return ""
    seeds = ", ".join(f"{name} ({len(settings.seeds)})" for name, settings in study.objectives.items())
    return (
        f"{len(study.ladder)} rungs, objectives with their number of seeds: {seeds}. "
        "Every rung's learning rate follows from its hidden size by one rule, stated in the study."
    )
