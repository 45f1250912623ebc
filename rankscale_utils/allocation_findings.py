"""What the allocation page says about exponents, serving and the parabola: sentences and tables of the results."""

import math
from collections.abc import Callable, Mapping
from html import escape

import pandas as pd
from IPython.display import HTML

from rankscale_utils.allocations import MORE_TRAINING, units
from rankscale_utils.study import Study
from rankscale_utils.tables import shown, si

WIDE = 1000  # times the lower end: an interval of the size that rules hardly anything out
SERVED = {"objective": "objective", "metric": "metric"}


def sentences(said: list[str]) -> HTML:
    """Return sentences set apart from the prose, each a paragraph."""
    return HTML('<div class="finding">' + "".join(f"<p>{escape(one)}</p>" for one in said) + "</div>")


def dollars(value: float) -> str:
    """Return an amount of money with three digits, however small; – where there is none."""
    if math.isnan(value):
        return "–"
    if not 0 < value < 1e15:
        return "$0" if value == 0 else "no limit" if math.isinf(value) else "over $1e15"
    if value >= 1000:
        return f"${si(value)}"
    if value < 1e-6:
        return "under $1e-6"
    if value < 1e-4:
        return f"${value:.2e}"
    return f"${float(f'{value:.3g}'):.{max(2 - math.floor(math.log10(value)), 0)}f}"


def verdicts(exponents: pd.DataFrame) -> list[str]:
    """Say for every objective and metric whether more compute should go into data or into size.

    exponents: as `allocations.exponents` returns them; the pairs' share of growing compute is b, the models' 1 − b.
    """
    said = []
    for row in exponents.to_dict("records"):
        of = f"{row['objective']}, {row['metric']}"
        share = f"b = {row['b']:.2f} [{row['b_lo']:.2f}, {row['b_hi']:.2f}]"
        if row["favours"] in ("size", "data"):
            half = "above" if row["favours"] == "data" else "below"
            why = f"as the whole interval of {share} lies {half} a half"
            said.append(f"{of}: {row['favours']} is favoured, {why}.{doubt(row['law'])}")
        elif row["favours"] == "undecided":
            why = f"as the interval of {share} holds a half"
            said.append(f"{of}: neither is shown to be favoured, {why}.{doubt(row['law'])}")
        else:
            said.append(f"{of}: no verdict, as the law is {row['favours']}.")
    return said


def assumptions(study: Study, budget: float) -> str:
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


def served(study: Study, best: pd.DataFrame) -> list[str]:
    """Say for the headline metric what the budget buys, a sentence an objective, and how far that is from the data."""
    if best.empty:
        return ["No series has a joint law of size and exposure, so no money can be allocated."]
    said = []
    for row in best[best["metric"] == best["metric"].iloc[0]].to_dict("records"):
        said.append(
            f"{row['objective']}: {dollars(row['budget'])} reaches {row['metric']} {row['value']:.4f} "
            f"[{row['value_lo']:.4f}, {row['value_hi']:.4f}] with {_system(study, row)}. "
            f"Serving takes {row['share']:.0%} of the money.{wide(row)}{doubt(row['law'])}"
        )
    return said


def reached(study: Study, least: pd.DataFrame) -> list[str]:
    """Say for the first metric what the wanted value costs at least, or that it is out of reach."""
    if least.empty:
        return ["No series has a joint law of size and exposure, so no cost can be forecast."]
    said = []
    for row in least.to_dict("records"):
        of = f"{row['objective']}: {row['metric']} {row['wanted']:.4f}"
        if row["status"] != "reachable":
            said.append(f"{of} is {row['status']}.")
        elif row["metric"] == least["metric"].iloc[0]:
            said.append(
                f"{of} costs at least {with_ends(row, 'total', dollars)}, "
                f"of which serving is {row['share']:.0%}: {_system(study, row)}."
                f"{_few(row['reached'])}{wide(row)}{doubt(row['law'])}"
            )
    return said


def _system(study: Study, row: dict) -> str:
    """Say what is to be trained, and how far that is from what was measured."""
    sizes, exposures = units(study)
    trained = f"{count(row['size'])} {sizes} trained on {count(row['exposure'])} {exposures}"
    return trained + (f", {times(row['beyond'])} the longest exposure measured" if row["beyond"] > 1 else "")


def _few(share: float) -> str:
    return f" Only {share:.0%} of the resampled laws can reach it." if share < 0.995 else ""


def wide(row: Mapping) -> str:
    """Say where the interval of the size is too wide to plan with."""
    if not row["size_lo"] > 0:
        return " The runs do not tell the size: its interval begins at nothing."
    factor = row["size_hi"] / row["size_lo"]
    if not factor > WIDE:
        return ""
    return f" The runs hardly tell the size: its interval spans a factor of {times(factor).removesuffix(' times')}."


def doubt(status: str) -> str:
    """Say what is wrong with a law, or nothing where it converged."""
    return "" if status == "converged" else f" Its law is {status}."


def times(factor: float) -> str:
    """Return a factor in words, with two digits."""
    if factor >= 1e6:
        return "over a million times"
    return f"{factor:.1f} times" if factor < 10 else f"about {float(f'{factor:.2g}'):,.0f} times"


def count(value: float) -> str:
    """Return a count with an SI prefix, in plain text."""
    return si(value).replace("&lt;", "<").replace("&gt; 10<sup>18</sup>", "more than 1e18")


def checked(check: pd.DataFrame) -> str:
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


def served_table(study: Study, table: pd.DataFrame) -> HTML:
    """Return `best_within_budget` or `least_total_cost` as a page shows it, intervals beside their estimates."""
    if table.empty:
        return HTML("")
    columns = (
        {"wanted": ("to reach", "{:.4f}".format)} if "total" in table else {"value": ("forecast", "{:.4f}".format)}
    )
    sizes, exposures = units(study)
    columns |= {"size": (sizes, si), "exposure": (exposures, si)}
    columns |= {"training": ("training", dollars), "serving": ("serving", dollars), "total": ("total", dollars)}
    columns = {name: column for name, column in columns.items() if name in table}
    written = {name: [with_ends(row, name, write) for row in table.to_dict("records")]
               for name, (_, write) in columns.items()}  # fmt: skip
    heads = {name: f"{title}|s" for name, (title, _) in columns.items()}
    return shown(table.assign(**written), **SERVED, **heads, law="law")


def with_ends(row: Mapping, name: str, write: Callable[[float], str]) -> str:
    """Write a number and its interval as HTML."""
    if math.isnan(row[name]):
        return "–"
    ends = "" if f"{name}_lo" not in row else f" [{write(row[f'{name}_lo'])}, {write(row[f'{name}_hi'])}]"
    return write(row[name]) + ends


def check_table(check: pd.DataFrame) -> HTML:
    """Return `isoflop_check` as a page shows it."""
    if check.empty:
        return HTML("")
    return shown(check, objective="objective", metric="metric", flops="FLOPs|.2e", rungs="rungs|d",
                 vertex="vertex|si", law_size="law's optimum|si", ratio="ratio|.2g", status="parabola")  # fmt: skip
