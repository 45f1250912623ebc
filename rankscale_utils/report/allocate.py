"""What the page 5_allocate shows: exponents, budgets, and what the law's pick would have cost."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.axes import Axes

from rankscale_utils.analysis.allocate import AllocationResults
from rankscale_utils.analysis.budgets import MORE_TRAINING
from rankscale_utils.analysis.compute import EVEN, SIDES, isoflop_tables, training_budgets, units_in_words
from rankscale_utils.laws import INSIDE
from rankscale_utils.measurements.table import headline, on_headline_test
from rankscale_utils.study.study import Study

from . import figures, prose, tables
from .prose import counted, dollars, doubt, share_in_words, si, wide, with_ends

NO_JOINT_LAW = (
    "No series has a law of size and exposure together, which takes three exposures or more of every rung, so nothing "
    "here says how to divide a budget between them."
)
SERIES = {"objective": "objective", "metric": "metric"}


def allocation_sentence(study: Study, exponents: pd.DataFrame, compared: pd.DataFrame) -> str:
    """Say what ten times the compute should buy for the headline metric, and what following the law would have cost."""
    if exponents.empty:
        return NO_JOINT_LAW
    metric = headline(study, exponents)
    sizes, exposures = units_in_words(study)
    growth = [
        f"{_tenfold(row, 'a')} the {sizes} and {_tenfold(row, 'b')} the {exposures} ({row['objective']}{_caveat(row)})"
        for _, row in on_headline_test(exponents[exponents["metric"] == metric], study.headline_test).iterrows()
    ]
    test = tables.test_of(on_headline_test(exponents, study.headline_test))
    mine = on_headline_test(exponents[exponents["metric"] == metric], study.headline_test)
    sure = (mine["favours"] != "undecided").any()
    how = (
        "ten times the training FLOPs are best spent on" if sure else "too uncertain to act on: ten times would go into"
    )
    spent = f"For {metric} on {test}, {how} {'; '.join(growth)}."
    rows = compared[compared["metric"] == metric] if len(compared) else compared
    if rows.empty:
        return f"{spent} No budget was spent by two rungs, so the law's pick cannot be checked."
    right = (rows["picked"] == rows["best"]).sum()
    return (
        f"{spent} At budgets that two rungs or more spent, the law picked the rung that was really best in "
        f"{counted(right, len(rows))}; its picks lost {rows['regret'].mean():.4f} on average."
    )


def _caveat(row: pd.Series) -> str:
    """Say, after a comma, what an advice rests on where it is not plain."""
    said = ["undecided which should grow faster"] * (row["favours"] == "undecided")
    return "".join(f", {word}" for word in [*said, row["law"]] if word != "converged")


def _tenfold(row: pd.Series, exponent: str) -> str:
    times, low, high = (10 ** row[f"{exponent}{end}"] for end in ("", "_lo", "_hi"))
    return f"{times:.1f} [{low:.1f}, {high:.1f}] times"


def isoflops(study: Study, allocation: AllocationResults) -> list[Axes]:
    """The headline metric at equal training FLOPs: the joint law, its optima, trained checkpoints; one an objective."""
    table, costs = allocation.table, allocation.costs
    levels, metric = training_budgets(table, costs), headline(study, table)
    drawn = [one for one in allocation.fitted if one.metric == metric and one.joint is not None]
    counted = units_in_words(study)[0]
    return [
        isoflop_panel(
            *isoflop_tables(one, table, costs[one.objective], levels), f"{one.objective}: {metric}", counted, metric
        )
        for one in drawn
    ]


def isoflop_panel(
    curves: pd.DataFrame, optima: pd.DataFrame, measured: pd.DataFrame, title: str, size: str, metric: str
) -> Axes:
    """One law's value against size, counted in `size`, at equal training FLOPs; tables have flops, size, value."""
    axes, ends = figures.panel(title, size, figures.unit(metric)), []
    figures.frame(axes, pd.concat([measured["value"], optima["value"]]))
    curves = curves[curves["value"].between(*axes.get_ylim())]
    for budget, colour in figures.rung_colours(sorted(curves["flops"].unique())).items():
        line, best = (rows[rows["flops"] == budget] for rows in (curves, optima))
        axes.plot(line["size"], line["value"], color=colour, lw=1.4)
        axes.plot(best["size"], best["value"], "*", color=colour, ms=11)
        dots = measured[np.isclose(measured["flops"], budget)]
        axes.plot(dots["size"], dots["value"], "o", color=colour, ms=4, alpha=0.8)
        ends.append((line["size"].iloc[-1], line["value"].iloc[-1], figures.Counts(places=1, sep="")(budget), colour))
    figures.log_axis(axes)
    figures.first_stage_line(axes, measured)
    figures.label_ends(axes, ends)
    return axes


def exponents_table(exponents: pd.DataFrame) -> HTML:
    """Return how the best size and exposure grow with compute, a row a series."""
    return tables.styled(
        exponents,
        **SERIES,
        a="a (size)|.3f",
        a_lo="low|.3f",
        a_hi="high|.3f",
        b="b (exposure)|.3f",
        b_lo="low|.3f",
        b_hi="high|.3f",
        favours="favours",
    )


def optima_table(study: Study, optima: pd.DataFrame) -> HTML:
    """Return the headline metric's best size and exposure at every training budget."""
    sizes, exposures = units_in_words(study)
    return tables.styled(
        _of_headline(study, optima),
        **SERIES,
        flops="FLOPs|.2e",
        size=f"{sizes}|si",
        size_lo="low|si",
        size_hi="high|si",
        exposure=f"{exposures}|si",
        exposure_lo="low|si",
        exposure_hi="high|si",
        value="value|.4f",
        value_lo="low|.4f",
        value_hi="high|.4f",
        status="where",
    )


def equal_compute_table(study: Study, compared: pd.DataFrame) -> HTML:
    """Return the law's pick beside the rung that was really best, for the headline metric."""
    return tables.styled(
        _of_headline(study, compared),
        **SERIES,
        flops="FLOPs|.2e",
        rungs="rungs compared|d",
        picked="law picks",
        best="really best",
        picked_value="its value|.4f",
        best_value="best value|.4f",
        regret="regret|.4f",
    )


def _of_headline(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    return table[table["metric"] == headline(study, table)] if len(table) else table


def verdict_sentences(exponents: pd.DataFrame) -> list[str]:
    """Say for every objective and metric whether more compute should go into data or into size.

    exponents: as `in_every_universe` returns them; the data's share of growing compute is b, the models' 1 − b.
    """
    said = []
    for row in exponents.to_dict("records"):
        of = f"{row['objective']}, {row['metric']}"
        if row["favours"] in SIDES:
            why = f"as the whole interval of {share_of_data(row)} lies {where_it_lies(row)}{_in_universes(row)}"
            favoured = "both grow alike" if row["favours"] == "both" else f"{row['favours']} is favoured"
            said.append(f"{of}: {favoured}, {why}.{doubt(row['law'])}")
        elif row["favours"] == "undecided":
            said.append(f"{of}: neither is shown to be favoured, as {why_undecided(row)}.{doubt(row['law'])}")
        else:
            said.append(f"{of}: no verdict, as the law is {row['favours']}.")
    return said


def _in_universes(row: dict) -> str:
    return f", in all {row['universes']} analyses" if row["universes"] else ""


def share_of_data(row: Mapping) -> str:
    """Return b, the share of growing compute that goes into data, with its interval."""
    return f"b = {row['b']:.2f} [{row['b_lo']:.2f}, {row['b_hi']:.2f}]"


def where_it_lies(row: Mapping) -> str:
    """Say where the interval of b lies, of a row that favours something."""
    return {"data": "above a half", "size": "below a half"}.get(row["favours"], "between {} and {}".format(*EVEN))


def why_undecided(row: Mapping) -> str:
    """Say why neither size nor data is favoured."""
    if row["b_lo"] <= 0.5 <= row["b_hi"] and not row.get("agreeing"):
        return f"the interval of {share_of_data(row)} holds a half"
    return f"only {row['agreeing']} of {row['universes']} analyses say what {share_of_data(row)} says"


def serving_prices_sentence(study: Study, budget: float) -> str:
    """Say what serving and compute are taken to cost, and where the budget comes from."""
    given = study.allocation
    rule = f"{MORE_TRAINING} times the training of the costliest run, and serving its model"
    source = "as the study sets it" if given.budget is not None else rule
    return (
        f"Assumed: {given.queries:,.0f} queries over the system's life, {given.depth:,.0f} candidates each; "
        f"${given.training_price:g} for 1e18 FLOPs of training and ${given.serving_price:g} of serving "
        f"($1.4 is $2 an H100-hour at 4e14 FLOP/s); scoring a pair costs a third of training on it. "
        f"The total budget is {dollars(budget)} ({source})."
    )


def within_budget_sentences(study: Study, best: pd.DataFrame) -> list[str]:
    """Say for the headline metric what the budget buys, a sentence an objective, and how far that is from the data."""
    if best.empty:
        return ["No series has a joint law of size and exposure, so no money can be allocated."]
    said = []
    for row in best[best["metric"] == best["metric"].iloc[0]].to_dict("records"):
        if np.isnan(row["size"]):
            said.append(f"{row['objective']}: what {dollars(row['budget'])} buys best is {row['status']}.")
            continue
        said.append(
            f"{row['objective']}: {dollars(row['budget'])} reaches {row['metric']} on {row['collection']} "
            f"{row['value']:.4f} "
            f"[{row['value_lo']:.4f}, {row['value_hi']:.4f}] with {_system(study, row)}. "
            f"Serving takes {share_in_words(row['share'])} of the money.{_end(row)}{wide(row)}"
        )
    return said


def least_cost_sentences(study: Study, least: pd.DataFrame) -> list[str]:
    """Say for the first metric what the wanted value costs at least, or that it is out of reach."""
    if least.empty:
        return ["No series has a joint law of size and exposure, so no cost can be forecast."]
    said = []
    for row in least.to_dict("records"):
        of = f"{row['objective']}: {row['metric']} {row['wanted']:.4f} on {row['collection']}"
        if np.isnan(row["total"]):
            said.append(f"{of} is {row['status']}.")
        elif row["metric"] == least["metric"].iloc[0]:
            said.append(
                f"{of} is forecast at no less than {with_ends(row, 'total', dollars)}, "
                f"of which serving is {share_in_words(row['share'])}: {_system(study, row)}. One new run there lies in "
                f"[{row['value_lo']:.4f}, {row['value_hi']:.4f}].{_end(row)}"
            )
    return said


def _end(row: dict) -> str:
    return "" if row["status"] == INSIDE else f" The optimum lies {row['status']}."


def _system(study: Study, row: dict) -> str:
    """Say what is to be trained, and how far that is from what was fitted."""
    sizes, exposures = units_in_words(study)
    trained = f"{si(row['size'])} {sizes} trained on {si(row['exposure'])} {exposures}"
    far = [
        f"{prose.times(row[name])} the {what} fitted"
        for name, what in (("size_beyond", "largest size"), ("exposure_beyond", "longest exposure"))
        if row[name] > 1
    ]
    return f"{trained} ({' and '.join(far)})" if far else trained


def parabola_sentence(check: pd.DataFrame) -> str:
    """Say how the isoFLOP parabola compares with the law."""
    if check.empty:
        return "No three rungs ever spent the same, so no parabola can be drawn."
    inside = check[check["status"] == "inside"]
    said = f"Of {len(check)} parabolas (an objective and a budget each), {len(inside)} have a vertex inside the "
    said += "measured sizes; elsewhere no parabola can check the law."
    if inside.empty:
        return said
    low, high = inside["ratio"].min(), inside["ratio"].max()
    return f"{said} There the law's optimum is {low:.2g} to {high:.2g} times the vertex."


def budget_table(study: Study, table: pd.DataFrame) -> HTML:
    """Return `best_within_budget` or `least_total_cost` as a page shows it, intervals beside their estimates."""
    if table.empty:
        return HTML("")
    columns = ({"wanted": ("to reach", "{:.4f}".format)} if "total" in table else {}) | {
        "value": ("forecast", "{:.4f}".format)
    }
    sizes, exposures = units_in_words(study)
    columns |= {"size": (sizes, si), "exposure": (exposures, si)}
    columns |= {"training": ("training", dollars), "serving": ("serving", dollars), "total": ("total", dollars)}
    columns = {name: column for name, column in columns.items() if name in table}
    written = {name: [with_ends(row, name, write) for row in table.to_dict("records")]
               for name, (_, write) in columns.items()}  # fmt: skip
    heads = {name: f"{title}|s" for name, (title, _) in columns.items()}
    return tables.styled(table.assign(**written), **SERIES, **heads, status="where")


def parabola_table(check: pd.DataFrame) -> HTML:
    """Return `isoflop_check` as a page shows it."""
    if check.empty:
        return HTML("")
    return tables.styled(check, objective="objective", metric="metric", flops="FLOPs|.2e", rungs="rungs|d",
                 vertex="vertex|si", law_size="law's optimum|si", ratio="ratio|.2g", status="parabola")  # fmt: skip
