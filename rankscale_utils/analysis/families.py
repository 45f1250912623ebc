"""Which family ranks best at which cost: training FLOPs, serving FLOPs and latency, and at equal size.

All families rerank the same candidates of the same queries, so they are compared query by query.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import read_parquet
from rankscale_utils.measurements.per_query import mean_with_interval, per_query
from rankscale_utils.measurements.reading import read_runs
from rankscale_utils.measurements.table import AS_IT_IS, OWN, RERANK, SEARCH, measured_rows, on_headline_test
from rankscale_utils.study import paths
from rankscale_utils.study.study import Study

from .results import write_table
from .significance import holm, paired
from .speedup import pareto_front

COSTS = {"flops": "training FLOPs", "flops_per_pair": "serving FLOPs a pair", "p50_ms": "median ms a query"}
FAMILY_NAMES = {"cross_encoder": "cross-encoder", "bi_encoder": "bi-encoder", "ed2lm": "ED2LM"}
BUDGETS_COMPARED = 7
MARGIN = 0.02  # of the metric, within which a family keeps the cross-encoder's quality
CHECKPOINT_COLUMNS = ["objective", "rung", "exposure"]
SYSTEM_COLUMNS = ["name", "rung", "depth"]
TESTED = ["difference", "difference_lo", "difference_hi", "p"]
WINNERS = ["cost", "budget", "winner", "option", "value", "lo", "hi", "gain", "gain_lo", "gain_hi", "second",
           "second_option", "second_value", *TESTED, "p_holm", "verdict"]  # fmt: skip
EQUAL_SIZE = ["rung", "params_non_embedding", "family", "objective", "value", "lo", "hi", "reference_value", *TESTED,
              "p_holm", "verdict"]  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What can be chosen on one collection, and its value on every query.

    table: a row an option: family, option (its name), costs among `COSTS`, value, lo, hi (mean over queries and its t
    interval). values: (queries, options), a column for every row of the table, named by its index. first_stage:
    (queries,), the values of the candidates' own order.
    """

    metric: str
    table: pd.DataFrame
    values: pd.DataFrame
    first_stage: pd.Series

    @property
    def deepest(self) -> "Options":
        """The served options that rerank the most candidates."""
        return replace(self, table=self.table[self.table["depth"] == self.table["depth"].max()])


@dataclass(frozen=True)
class Comparison:
    """A study's families compared: checkpoints, served systems, `winners` at every cost, and `at_equal_size`.

    searched: the bi-encoder's checkpoints, valued by what they find themselves; existing: models that exist, served as
    they are. None where there are none.
    """

    collection: str
    trained: Options
    searched: Options | None
    served: Options
    existing: Options | None
    winners: pd.DataFrame
    equal_size: pd.DataFrame

    @property
    def beside_existing(self) -> Options:
        """What is served of the study's own and of models that exist, without values of single queries."""
        if self.existing is None:
            return self.served
        table = pd.concat([self.served.table, self.existing.table], ignore_index=True)
        return replace(self.served, table=table, values=pd.DataFrame())


def compare_families(study: Study) -> Comparison:
    """Compare a study's families on its headline test; write `families.csv`, the winners, and `equal_size.csv`.

    Raises:
        StudyError: the study trains one family, a run has not been evaluated or timed, or all of them failed.
    """
    if len(study.families) < 2:
        names = [FAMILY_NAMES[family] for family in study.families]
        trained = f"one family, the {names[0]}" if names else "nothing"
        raise StudyError(f"study {study.name} trains {trained}: choose one of several families, such as families.")
    level, systems = study.forecasting.level, serving_options(study)
    collection, mine, searched = training_options(study, systems)
    tables = [
        winners(mine, "flops", level),
        winners(systems.deepest, "flops_per_pair", level),  # a pair costs about the same at every depth
        winners(systems, "p50_ms", level),
    ]
    found = pd.concat(tables, ignore_index=True).assign(metric=mine.metric, collection=collection)
    write_table(paths.families_file(study.folder), found)
    equal_size = compare_at_equal_size(mine, level=level)
    write_table(paths.equal_size_file(study.folder), equal_size)
    existing = existing_options(study) if study.systems else None
    return Comparison(collection, mine, searched, systems, existing, found, equal_size)


def training_options(study: Study, systems: Options) -> tuple[str, Options, Options | None]:
    """Return a study's headline test, its checkpoints there that did not fail, and those that `Comparison` searched.

    systems: the study's `served` models, whose metric and first stage are taken.

    Raises:
        StudyError: a run has not been evaluated, or all of them failed.
    """
    table = measured_rows(read_runs(study, study.runs))
    if table.empty:
        raise StudyError(f"none of {len(study.runs)} runs left a usable measurement: lower the learning rates.")
    rows, values = (
        one[(one["metric"] == systems.metric) & (one["score"] == OWN)]
        for one in (table, measured_rows(per_query(study, study.runs)))
    )
    first = on_headline_test(rows[rows["task"] == RERANK], study.headline_test)["collection"].iloc[0]
    found = []
    for task in (RERANK, SEARCH):
        mine, of_queries = (one[(one["collection"] == first) & (one["task"] == task)] for one in (rows, values))
        level = study.forecasting.level
        found.append(None if mine.empty else checkpoint_options(mine, of_queries, systems.first_stage, level))
    return first, *found


def checkpoint_options(
    measured: pd.DataFrame, values: pd.DataFrame, first_stage: pd.Series, level: float = 0.95
) -> Options:
    """Return checkpoints as options: an objective's rung at an exposure, mean over the seeds that did not fail.

    measured: usable measurements of one metric on one collection; values: their per-query values. Further columns of
    the table: objective, rung, exposure, params_non_embedding, flops (to train one seed), seeds.
    """
    table = measured.groupby(["family", *CHECKPOINT_COLUMNS], sort=False).agg(
        params_non_embedding=("params_non_embedding", "first"), flops=("flops", "mean"), seeds=("run", "nunique")
    )
    table = table.reset_index()
    names = [f"{row.objective} {row.rung}, {row.exposure:,.0f} pairs" for row in table.itertuples()]
    wide = _by_option(values, CHECKPOINT_COLUMNS, table)
    return Options(measured["metric"].iloc[0], _valued(table.assign(option=names), wide, level), wide, first_stage)


def serving_options(study: Study) -> Options:
    """Return the models that `speed.measure_study` timed as options, at every depth.

    BM25 is none of them, as its order is the candidates' own, and models that exist stand for no family's ladder.
    """
    return _timed_options(study, of_the_ladder=True)


def existing_options(study: Study) -> Options:
    """Return the models that exist, which were timed as well, as options at every depth."""
    return _timed_options(study, of_the_ladder=False)


def _timed_options(study: Study, of_the_ladder: bool) -> Options:
    if not paths.speed_file(study.folder).exists():
        raise StudyError(f"study {study.name} has not been timed: run `make study STUDY={study.name}` first.")
    timed = pd.read_csv(paths.speed_file(study.folder), keep_default_na=False)
    values = read_parquet(paths.speed_per_query_file(study.folder))
    wanted = (timed["family"] != "bm25") & ((timed["objective"] != AS_IT_IS) == of_the_ladder)
    table = timed[wanted].reset_index(drop=True)
    names = [f"{f'{row.name} {row.rung}'.rstrip()}, depth {row.depth}" for row in table.itertuples()]
    wide = _by_option(values, SYSTEM_COLUMNS, table)
    own = values[(values["objective"] == "BM25") & (values["depth"] == values["depth"].max())]
    first_stage = own.set_index("query_id")["value"]
    table = _valued(table.assign(option=names), wide, study.forecasting.level)
    return Options(table["metric"].iloc[0], table, wide, first_stage)


def _by_option(values: pd.DataFrame, keys: list[str], table: pd.DataFrame) -> pd.DataFrame:
    """Return values (queries, options), mean over seeds, of the queries that every option has."""
    wide = values.pivot_table(index="query_id", columns=keys, values="value").dropna()
    return wide[list(table[keys].itertuples(index=False, name=None))].set_axis(table.index, axis="columns")


def _valued(table: pd.DataFrame, wide: pd.DataFrame, level: float) -> pd.DataFrame:
    means = [mean_with_interval(wide[row], level) for row in table.index]
    return table.assign(**pd.DataFrame(means, table.index, ["value", "lo", "hi"]))


def cost_budgets(options: Options, cost: str) -> NDArray:
    """Return budgets evenly spaced in logarithms, from the cheapest option's cost to the dearest's: (budgets,)."""
    costs = options.table[cost]
    return np.unique(np.geomspace(costs.min(), costs.max(), BUDGETS_COMPARED))


def best_within_cost(options: Options, cost: str) -> pd.DataFrame:
    """Return each family's best option within each budget: budget, row (its index in the options), its columns.

    A family has no row where the budget is below its cheapest option. The best is chosen by the very values that it is
    shown with, so these lean upwards, the more so the more options a family has.
    """
    grid, found = pd.DataFrame({"budget": cost_budgets(options, cost)}), []
    for _, mine in options.table.astype({cost: float}).groupby("family", sort=False):
        front = pareto_front(mine, cost).rename_axis("row").reset_index()
        found.append(pd.merge_asof(grid, front, left_on="budget", right_on=cost).dropna(subset="row"))
    return pd.concat(found, ignore_index=True).astype({"row": int}).sort_values("budget", kind="stable")


def winners(options: Options, cost: str, level: float = 0.95) -> pd.DataFrame:
    """Return the best family within each budget and its lead over the second: the columns `WINNERS`.

    gain: the best less the candidates' own order; difference: the best less the second; both are means over queries
    with their paired t intervals at `level`. p is the difference's, and p_holm corrects it for all budgets of this
    cost. verdict: “wins”; “a tie” where the difference's interval holds 0; “alone” where no other family is so cheap.
    Intervals are over queries; they say nothing of other seeds.
    """
    best = best_within_cost(options, cost)
    rows = [_winner(options, mine, level) | {"cost": cost, "budget": budget} for budget, mine in best.groupby("budget")]
    table = pd.DataFrame(rows).reindex(columns=WINNERS)
    return table.assign(p_holm=holm(table["p"]))


def _winner(options: Options, best: pd.DataFrame, level: float) -> dict:
    first, *others = best.sort_values("value", ascending=False, kind="stable").to_dict("records")
    values, row = options.values, {name: first[name] for name in ("option", "value", "lo", "hi")}
    gain = paired((values[first["row"]] - options.first_stage).dropna(), level)
    row |= {"winner": first["family"], "gain": gain["difference"], "gain_lo": gain["lo"], "gain_hi": gain["hi"]}
    if not others:
        return row | {"verdict": "alone"}
    second = others[0]
    tested = _tested(values[first["row"]] - values[second["row"]], level)
    named = {"second": second["family"], "second_option": second["option"], "second_value": second["value"]}
    return row | named | tested | {"verdict": "wins" if tested["difference_lo"] > 0 else "a tie"}


def _tested(difference: pd.Series, level: float) -> dict[str, float]:
    return dict(zip(TESTED, paired(difference, level).values(), strict=True))


def compare_at_equal_size(options: Options, reference: str = "cross_encoder", level: float = 0.95) -> pd.DataFrame:
    """Return every other family beside the reference family at the non-embedding sizes of its rungs: `EQUAL_SIZE`.

    A family's value at a size is, query by query, on the line between its two neighbouring rungs in log size, at the
    last exposure; beyond its own ladder there is no row. A family stands for its first objective. difference: the
    family less the reference, otherwise as in `winners`; verdict: “within” where the whole interval lies above
    -`MARGIN`, “short” where it lies below, else “undecided”.
    """
    last = options.table[options.table["exposure"] == options.table["exposure"].max()]
    ladders = {
        family: rows[rows["objective"] == rows["objective"].iloc[0]].sort_values("params_non_embedding")
        for family, rows in last.groupby("family", sort=False)
    }
    own = ladders.pop(reference, last.iloc[:0])
    found = []
    for family, ladder in ladders.items():
        inside = own["params_non_embedding"].between(*ladder["params_non_embedding"].iloc[[0, -1]])
        for row, rung in own[inside].iterrows():
            mine, theirs = _at_size(options.values, ladder, rung["params_non_embedding"]), options.values[row]
            value = dict(zip(("value", "lo", "hi"), mean_with_interval(mine, level), strict=True))
            tested = _tested(mine - theirs, level)
            named = {"family": family, "objective": ladder["objective"].iloc[0], "reference_value": theirs.mean()}
            verdict = {"verdict": _within_margin(tested)}
            found.append(rung[["rung", "params_non_embedding"]].to_dict() | named | value | tested | verdict)
    table = pd.DataFrame(found).reindex(columns=EQUAL_SIZE)
    return table.assign(p_holm=holm(table["p"]))


def _at_size(values: pd.DataFrame, ladder: pd.DataFrame, size: float) -> pd.Series:
    """Return a ladder's values on every query at a size, linear in log size between its rungs: (queries,)."""
    sizes = np.log(ladder["params_non_embedding"])
    weights = [np.interp(np.log(size), sizes, of_rung) for of_rung in np.eye(len(sizes))]
    return values[ladder.index] @ pd.Series(weights, ladder.index)


def _within_margin(tested: dict[str, float]) -> str:
    if tested["difference_lo"] > -MARGIN:
        return "within"
    return "short" if tested["difference_hi"] < -MARGIN else "undecided"
