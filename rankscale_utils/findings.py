"""What the pages say: facts and sentences computed from the tables, never typed in."""

import pandas as pd

from rankscale_utils import laws
from rankscale_utils.fits import Fitted, of_front
from rankscale_utils.measurements import front, headline, rising
from rankscale_utils.study import Study

WORST_SKILL = -10  # beyond it “no change” was right by luck


def run_facts(ledger: dict) -> dict[str, str]:
    """Return what a run is: size, learning rate, cost, hardware."""
    hardware = ledger["hardware"]
    return {
        "status": ledger["status"],
        "objective": ledger["objective"],
        "rung": f"{ledger['rung']}, seed {ledger['seed']}",
        **_annotated(ledger),
        "parameters": f"{ledger['params']:,}, of which {ledger['params_non_embedding']:,} outside the embeddings",
        "learning_rate": f"{ledger['learning_rate']:.3g}{_swept(ledger.get('sweep'))}",
        "training_FLOPs_a_pair": f"{ledger['flops_per_pair']:,.0f}" if ledger["flops_per_pair"] else "–",
        "speed": f"{ledger['pairs_per_second']:,.0f} pairs/s on {hardware['device']}, {hardware['threads']} thread(s)",
    }


def _annotated(ledger: dict) -> dict[str, str]:
    """Say who annotated a run's pairs, and how many, where it is not trained on the whole collection."""
    if not ledger["source"]:
        return {}
    return {"annotated_pairs": f"{ledger['annotations']:,}, {ledger['source'].replace('_', ' ')}"}


def _swept(sweep: dict | None) -> str:
    """Say how a sweep chose the rate."""
    if not sweep:
        return ""
    losses = {factor: f"{loss:.4f}" if isinstance(loss, float) else loss for factor, loss in sweep["losses"].items()}
    tried = ", ".join(f"×{factor} {said}" for factor, said in losses.items())
    return f", the rule's times {sweep['factor']:g}, by the loss on held-out training queries: {tried}"


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
        f"{last['loss']:.3f} nats.{ended}{_own_end(ledger['checkpoints'])}"
    )


def _own_end(checkpoints: list[dict]) -> str:
    """Say where a run that is trained to its own end has it."""
    if "dev" not in checkpoints[-1]:
        return ""
    best = min(checkpoints, key=lambda checkpoint: checkpoint["dev"])
    return (
        f" Its own end is at {best['exposure']:,} pairs, where the contrastive entropy of the dev part is lowest: "
        f"{best['dev']:.4f} nats."
    )


def dev_column(ledger: dict) -> dict[str, str]:
    """Return the heading of the dev part's entropy, where a run has one."""
    return {"dev": "dev entropy|.4f"} if ledger["source"] else {}


def headlines(study: Study, table: pd.DataFrame) -> list[str]:
    """Return the headline metric and, where measured, the contrastive entropy."""
    entropies = [metric for metric in table["metric"].unique() if not rising(metric)]
    return list(dict.fromkeys([headline(study, table), *entropies[:1]]))


def shown(study: Study, fitted: list[Fitted]) -> list[Fitted]:
    """Return the series that figures show: the headline metrics on the first collection."""
    mine = of_front(fitted)
    metrics = headlines(study, pd.DataFrame({"metric": [one.metric for one in mine]}))
    return [one for one in mine if one.metric in metrics]


def collection_column(table: pd.DataFrame) -> dict[str, str]:
    """Return the heading of the collection, where a table holds several."""
    return {"collection": "collection"} if len(table) and table["collection"].nunique() > 1 else {}


def by_exposure(table: pd.DataFrame) -> pd.DataFrame:
    """Return one run's metrics, a row for each collection, with a column an exposure and the candidates' limits."""
    keys = ["collection", "metric"]
    wide = table.pivot_table(index=keys, columns="exposure", values="value", sort=False)
    wide.columns = [f"at_{int(exposure)}" for exposure in wide.columns]
    limits = table.groupby(keys, sort=False)[["first_stage", "ceiling"]].first()
    return wide.join(limits).reset_index()


def exposure_columns(table: pd.DataFrame) -> dict[str, str]:
    """Return the headings of `by_exposure`."""
    exposures = {f"at_{int(e)}": f"{int(e):,}|.4f" for e in sorted(table["exposure"].unique())}
    return (
        collection_column(table)
        | {"metric": "metric"}
        | exposures
        | {"first_stage": "first stage|.4f", "ceiling": "ceiling|.4f"}
    )


def evaluation(study: Study, table: pd.DataFrame) -> str:
    """Say what the run's last checkpoint reached on the first collection, beside its first stage and its ceiling."""
    metric = headline(study, table)
    last = front(table[table["metric"] == metric]).sort_values("exposure").iloc[-1]
    beats = "above" if last["value"] > last["first_stage"] else "below"
    excluded = f" It is excluded from fits: {last['excluded']}." if last["excluded"] else ""
    return (
        f"After {last['exposure']:,.0f} pairs {metric} is {last['value']:.4f}, {beats} the candidates' own order "
        f"({last['first_stage']:.4f}); a perfect reranking would reach {last['ceiling']:.4f}.{excluded}"
    )


def choice(fitted: list[Fitted]) -> str:
    """Say which laws are averaged, and what decided it."""
    table = fitted[0].choice
    best, kept = table.iloc[0], table[table["kept"]]
    spread = (
        f"those within one standard error of {best['candidate']}"
        if best["observations"] > 1
        else "all of them, as one observation tells nothing apart"
    )
    return (
        f"{best['observations']} times a rung could be forecast from two or more smaller ones (once for each objective "
        f"and rung). The best candidate, {best['candidate']}, was wrong by {best['loss']:.1%} on average; averaged are "
        f"{spread}: {', '.join(kept['candidate'])}."
    )


def choice_table(fitted: list[Fitted]) -> pd.DataFrame:
    """Return every candidate's past, the best first."""
    return fitted[0].choice.astype({"kept": object})


def noise_scales(fitted: list[Fitted]) -> str:
    """Say on which scale metrics are fitted, and how even their noise is there."""
    rows = []
    for one in fitted:
        known = one.average.series
        ratios = [laws.unevenness(one.raw, known.rising, known.limits, scale) for scale in ("value", "gap")]
        rows.append((known.scale, *ratios) if known.rising else None)
    table = pd.DataFrame([row for row in rows if row], columns=["scale", "value", "gap"])
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


def fits_table(fitted: list[Fitted]) -> pd.DataFrame:
    """Return every averaged law's coefficients and status, a row a fit; coefficients that no law has are absent."""
    rows, absent = [], dict.fromkeys(("asymptote", "A", "alpha", "B", "beta"))
    for one in fitted:
        for name, draws in one.laws.items():
            fit = draws.fit
            noise = {"between_sd": draws.between_sd, "within_sd": draws.within_sd}
            facts = {"law": name, "scale": fit.scale, "status": fit.status, "runs": fit.runs, "r2": fit.r2}
            rows.append(one.labels | facts | absent | fit.coefficients | noise)
    return pd.DataFrame(rows)


def data_laws_table(fitted: list[Fitted]) -> pd.DataFrame:
    """Return every rung's data law, a row a fit."""
    rows = [
        one.labels | {"rung": rung, "status": fit.status, "r2": fit.r2} | fit.coefficients
        for one in fitted
        for rung, fit in one.data.items()
    ]
    return pd.DataFrame(rows)


def averages(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Return the averages' forecasts of one new run."""
    return new_run(forecasts[forecasts["law"] == "average"])


def new_run(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Return the forecasts of one new run; where they are scored, `hit` says whether all new runs fell inside.

    `skill_shown` is the skill in words where “no change” was so nearly right that the number means nothing.
    """
    table = forecasts[forecasts["kind"] == "new_run"] if len(forecasts) else forecasts
    table = table.assign(interval=_intervals(table)) if len(table) else table
    if "query_lo" in table:
        ends = table[["query_lo", "query_hi"]].set_axis(["lo", "hi"], axis="columns")
        table = table.assign(query_interval=_intervals(ends))
    if "skill" not in table:
        return table.assign(hit=table["covered"].map(bool)) if "covered" in table else table
    skill = [f"{value:+.2f}" if value >= WORST_SKILL else f"below {WORST_SKILL}" for value in table["skill"]]
    return table.assign(hit=[bool(share == 1) for share in table["covered"]], skill_shown=skill)


def _intervals(forecasts: pd.DataFrame) -> list[str]:
    return [f"{row['lo']:.4f} – {row['hi']:.4f}" if pd.notna(row["lo"]) else "–" for _, row in forecasts.iterrows()]


def seal(forecasts: pd.DataFrame) -> str:
    """Say what was sealed, when, on which data, and whether the truth could be known."""
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


def sealed(forecasts: pd.DataFrame) -> str:
    """Say what was sealed, as `seal` does, and how far intervals reach."""
    new = averages(forecasts).iloc[0]
    return (
        f"{seal(forecasts)} The {new['level']:.0%} intervals of one new run reach {new['reach']:.2f} standard errors "
        "to each side."
    )


def other_queries(forecasts: pd.DataFrame) -> str:
    """Say how much wider intervals are that must hold on other test queries of the same kind."""
    if "query_lo" not in forecasts:
        return "Values of single queries were not measured here, so intervals hold for these very test queries."
    rows = averages(forecasts)
    wider = (rows["query_hi"] - rows["query_lo"]) / (rows["hi"] - rows["lo"])
    return (
        "These intervals hold for these very test queries. Had other queries of the same kind been drawn, the same "
        f"for every model, they would be {wider.median():.2f} times as wide (median over forecasts; the most "
        f"{wider.max():.2f}), as the last column says."
    )


def query_columns(forecasts: pd.DataFrame) -> dict[str, str]:
    """Return the heading of the intervals on other queries, where there are any."""
    return {"query_interval": "on other queries"} if "query_lo" in forecasts else {}


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
    rows = averages(front(scored[scored["metric"] == metric]))
    sentences = [
        f"{row['objective']} {row['rung']}: forecast {row['forecast']:.4f} [{row['lo']:.4f}, {row['hi']:.4f}], "
        f"measured {row['actual']:.4f}"
        for _, row in rows.iterrows()
    ]
    return f"{metric}: {'; '.join(sentences)}. {coverage(scored)}"


def coverage(scored: pd.DataFrame) -> str:
    """Say how often the averages' intervals held the truth, beside how often they should have."""
    runs = averages(scored)
    runs = runs[runs["covered"].notna()]
    width = ((runs["hi"] - runs["lo"]) / runs["actual"]).median()
    return (
        f"Of all {len(runs)} forecasts, {runs['covered'].mean():.0%} of the new runs fell inside their "
        f"{runs['level'].iloc[0]:.0%} interval (in simulated studies of this design: {runs['coverage'].mean():.0%}); "
        f"the median interval is {width:.0%} of the value wide."
    )


def side_by_side(scored: pd.DataFrame) -> pd.DataFrame:
    """Return ours beside the baselines, a row a rung and law: mean errors, coverage, width, interval score."""
    runs = scored[(scored["kind"] == "new_run") & scored["actual"].notna()]
    runs = runs.assign(
        relative=runs["relative_error"].abs(),
        inside=runs["covered"].where(runs["lo"].notna()),
        width=(runs["hi"] - runs["lo"]) / runs["actual"],
        score=runs["interval_score"] / runs["actual"],
    )
    first = {"average": 0, "P0 size": 1, "P0 joint": 2, "no change": 3}
    runs = runs.assign(order=runs["law"].map(first).fillna(4)).sort_values(["params", "order"])
    table = runs.groupby(["rung", "law"], sort=False).agg(
        forecasts=("actual", "size"), relative=("relative", "mean"), bias=("relative_error", "mean"),
        inside=("inside", "mean"), width=("width", "median"), score=("score", "mean"), skill=("skill", "mean"),
        skill_to_p0=("skill_to_p0", "mean"))  # fmt: skip
    return table.reset_index()


def beside_p0(scored: pd.DataFrame) -> pd.DataFrame:
    """Return the averages' scored forecasts with P0's: p0_forecast, p0_interval, p0_error, p0_hit."""
    keys = ["objective", "metric", "collection", "rung"]
    theirs = new_run(scored[scored["law"] == "P0 size"]).drop(columns="error")
    theirs = theirs.rename(columns={"relative_error": "error"})
    theirs = theirs.set_index(keys)[["forecast", "interval", "error", "hit"]].add_prefix("p0_")
    return averages(scored).merge(theirs, left_on=keys, right_index=True, how="left")


def comparison(scored: pd.DataFrame) -> str:
    """Say how our errors compare with P0's protocol and with no change, rung by rung."""
    table = side_by_side(scored).set_index(["rung", "law"])["relative"]
    sentences = []
    for rung in table.index.get_level_values("rung").unique():
        ours, theirs, unchanged = (table.get((rung, law), float("nan")) for law in ("average", "P0 size", "no change"))
        sentences.append(
            f"{rung}: mean absolute error {ours:.1%} of the value, against {theirs:.1%} by P0's protocol and "
            f"{unchanged:.1%} by “no change”"
        )
    return "; ".join(sentences) + "."


def allocation(study: Study, exponents: pd.DataFrame, compared: pd.DataFrame) -> str:
    """Say what ten times the compute should buy for the headline metric, and what following the law would have cost."""
    metric = headline(study, exponents)
    growth = [
        f"{_tenfold(row, 'a')} the parameters and {_tenfold(row, 'b')} the pairs ({row['objective']})"
        for _, row in front(exponents[exponents["metric"] == metric]).iterrows()
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
    """Say what the largest rung costs beside the smallest at the full depth, computed as the first system is."""
    rows = table[(table["depth"] == table["depth"].max()) & (table["name"] == table["name"].iloc[0])]
    small, large, metric = rows.iloc[0], rows.iloc[-1], table["metric"].iloc[0]
    return (
        f"{large['rung']} needs {large['p50_ms'] / small['p50_ms']:.1f} times {small['rung']}'s time for a query's "
        f"{large['depth']} candidates ({large['p50_ms']:.2f} against {small['p50_ms']:.2f} ms) and "
        f"{large['flops_per_pair'] / small['flops_per_pair']:.1f} times its FLOPs; {metric} is {large['value']:.4f} "
        f"against {small['value']:.4f}."
    )


def within(best: pd.DataFrame) -> str:
    """Say what ranks best within each latency budget; best: `pareto.best_within`."""
    if best.empty:
        return "No system is as fast as these budgets ask."
    metric = best["metric"].iloc[0]
    said = [
        f"within {row.budget_ms:g} ms a query {f'{row.name} {row.rung}'.strip()} at depth {row.depth}, {metric} "
        f"{row.value:.4f} [{row.lo:.4f}, {row.hi:.4f}]"
        for row in best.itertuples()
    ]
    return f"Best measured: {'; '.join(said)}."


def answer(study: Study, scored: pd.DataFrame, exponents: pd.DataFrame, compared: pd.DataFrame) -> list[str]:
    """Return the sentences that a study's first page opens with: forecast, truth, and how to spend the budget."""
    metric = headline(study, scored)
    rows = averages(front(scored[scored["metric"] == metric]))
    sentences = [
        f"{row['rung']} with the {row['objective']} objective was forecast to reach {metric} {row['forecast']:.4f} "
        f"[{row['lo']:.4f}, {row['hi']:.4f}]; it reached {row['actual']:.4f}, "
        f"{'inside' if row['hit'] else 'outside'} the interval."
        for _, row in rows.iterrows()
    ]
    audit = f"{coverage(scored)} {comparison(scored)} {persistence(rows)}"
    return [*sentences, audit, allocation(study, exponents, compared)]


def persistence(rows: pd.DataFrame) -> str:
    """Say how often “no change” was nearer to the truth than these forecasts."""
    nearer = int((rows["skill"] < 0).sum())
    return (
        f"“No change from the largest fitted rung” was nearer to the truth in {nearer} of the {len(rows)} forecasts of "
        f"{rows['metric'].iloc[0]}."
    )


def runs_note(study: Study) -> str:
    """Say what the grid of runs is."""
    if not study.runs:
        return ""
    seeds = ", ".join(f"{name} ({len(settings.seeds)})" for name, settings in study.objectives.items())
    return (
        f"{len(study.ladder)} rungs, objectives with their number of seeds: {seeds}. "
        "Every rung's learning rate follows from its hidden size by one rule, stated in the study."
        + _annotation_note(study)
    )


def _annotation_note(study: Study) -> str:
    if not study.annotations:
        return ""
    sources = ", ".join(dict.fromkeys(run.source.replace("_", " ") for run in study.annotation_runs))
    return (
        f" {len(study.annotation_runs)} further runs on {study.annotations.counts[0]:,} to "
        f"{study.annotations.counts[-1]:,} annotated pairs ({sources}), each measured at its own end."
    )


def multiverse(table: pd.DataFrame) -> str:
    """Say how far the forecast and the allocation exponent move with the analyst's choices."""
    if table.empty:
        return "The measurements allow no other analysis."
    sentences = []
    for objective, rows in table.groupby("objective", sort=False):
        low, high = rows.loc[rows["forecast"].idxmin()], rows.loc[rows["forecast"].idxmax()]
        exponent = rows["exponent"].dropna()
        favoured = ""
        if len(exponent):
            side = (
                "size" if exponent.min() > 0.5 else "data" if exponent.max() < 0.5 else "size in some, data in others"
            )
            favoured = f"; more compute favours {side} (a from {exponent.min():.2f} to {exponent.max():.2f})"
        sentences.append(
            f"{objective}, {rows['rung'].iloc[0]}: {rows['metric'].iloc[0]} from {low['forecast']:.4f} "
            f"({low['choice']}: {low['option']}) to {high['forecast']:.4f} ({high['choice']}: {high['option']})"
            f"{favoured}"
        )
    return f"{len(table.drop_duplicates(['choice', 'option']))} analyses. {'; '.join(sentences)}."


def next_run(planned: pd.DataFrame) -> str:
    """Say which run to train next, and what it would be worth."""
    if planned.empty:
        return "No single run would narrow the forecast by one percent or more."
    first = planned.iloc[0]
    return (
        f"Most certainty for each FLOP: {first['kind']} at {first['N']:,.0f} parameters (as the study counts them) and "
        f"{first['D']:,.0f} pairs ({first['objective']}); the interval's half width would go from "
        f"{first['half_width_now']:.4f} to {first['half_width_after']:.4f}. With few runs any further one helps most "
        "by saying how much runs differ, so the cheapest come first; this supposes noise as large at every size."
    )
