"""What the page on families says: sentences and tables of the comparison, never typed in."""

import math
from collections.abc import Iterable, Mapping
from itertools import groupby

import pandas as pd
from IPython.display import HTML

from rankscale_utils.family_comparison import COSTS, MARGIN, NAMES, Comparison, Options
from rankscale_utils.study import Study
from rankscale_utils.tables import shown

POWERS = ["", " thousand", " million", " billion", " trillion", " quadrillion"]  # of a thousand


def answer(winners: pd.DataFrame) -> str:
    """Say in one sentence which family wins at which cost; winners: of all costs, as in `families.csv`."""
    first = winners.iloc[0]
    return (
        f"Which family ranks best, by {first['metric']} on {first['collection']}: {'; '.join(_costs(winners))}. "
        f"{above_first_stage(winners)}"
    )


def above_first_stage(winners: pd.DataFrame) -> str:
    """Say how often the best family ranks better than the candidates' own order."""
    better, worse = (winners["gain_lo"] > 0).sum(), (winners["gain_hi"] < 0).sum()
    return (
        f"The best family ranks above the candidates' own order at {better or 'none'} of these {len(winners)} budgets "
        f"and below it at {worse or 'none'}, by the whole interval."
    )


def wins(winners: pd.DataFrame) -> list[str]:
    """Say at which budgets which family wins, and its lead at the largest one, a sentence a cost."""
    return [
        f"{_sentence(said)} {_lead(rows.iloc[-1])}"
        for said, (_, rows) in zip(_costs(winners), winners.groupby("cost", sort=False), strict=True)
    ]


def _costs(winners: pd.DataFrame) -> list[str]:
    """Say for every cost which families win as the budget grows."""
    said = []
    for cost, rows in winners.groupby("cost", sort=False):
        stretches = groupby(rows.to_dict("records"), key=_outcome)
        parts = [f"{outcome} {_reach(cost, list(budgets))}" for outcome, budgets in stretches]
        said.append(f"by {COSTS[cost]}, {', then '.join(parts)}")
    return said


def _sentence(said: str) -> str:
    return f"{said[0].upper()}{said[1:]}."


def the(family: str) -> str:
    """Return a family's name as prose has it."""
    return NAMES[family] if family == "ed2lm" else f"the {NAMES[family]}"


def _outcome(row: dict) -> str:
    if row["verdict"] == "a tie":
        return f"a tie of {listed(sorted(the(row[place]) for place in ('winner', 'second')))}"
    return f"{the(row['winner'])}{' alone' if row['verdict'] == 'alone' else ''}"


def _reach(cost: str, rows: list[dict]) -> str:
    low, high = (amount(cost, rows[place]["budget"]) for place in (0, -1))
    return f"at {low}" if low == high else f"from {low} to {high}"


def _lead(row: pd.Series) -> str:
    best = (
        f"Within {amount(row['cost'], row['budget'])} {COSTS[row['cost']]} the best {NAMES[row['winner']]} "
        f"({row['option']}) reaches {row['value']:.3f} [{row['lo']:.3f}, {row['hi']:.3f}]"
    )
    if row["verdict"] == "alone":
        return f"{best}."
    return (
        f"{best}, {_difference(row)} beside the best {NAMES[row['second']]} ({row['second_option']}); "
        f"Holm-corrected p: {_p(row['p_holm'])}."
    )


def _p(p: float) -> str:
    return "–" if math.isnan(p) else "under 0.001" if p < 0.001 else f"{p:.2g}"


def amount(cost: str, value: float) -> str:
    """Return a cost as prose has it: 0.34 (ms), 120 million (FLOPs)."""
    value = float(f"{value:.2g}")
    if cost == "p50_ms":
        return f"{value:,g}"
    power = min(int(math.log10(value) // 3), len(POWERS) - 1)
    return f"{value / 1000**power:g}{POWERS[power]}"


def listed(words: Iterable[str]) -> str:
    """Return words as prose lists them: a, b and c."""
    *before, last = words
    return f"{', '.join(before)} and {last}" if before else last


def absent(study: Study, options: Options) -> list[str]:
    """Name the families of which no checkpoint is a measurement."""
    left = set(options.table["family"])
    return [
        f"No run of {the(family)} left a usable measurement, so it is not compared."
        for family in study.families
        if family not in left
    ]


def at_equal_size(found: Comparison) -> list[str]:
    """Say for every other family at which of the cross-encoder's sizes it keeps its quality, a sentence a family."""
    table, options = found.equal_size, found.trained.table
    rungs = options.loc[options["family"] == "cross_encoder", "rung"].unique()
    if table.empty:
        return ["No family's ladder spans a size that the cross-encoder has, so none is compared at equal size."]
    return [_kept(family, rows, rungs, found.trained.metric) for family, rows in table.groupby("family", sort=False)]


def _kept(family: str, rows: pd.DataFrame, rungs: Iterable[str], metric: str) -> str:
    verdicts = {
        "within": f"within {MARGIN:g} {metric} of it or above",
        "undecided": f"undecided, as the interval holds -{MARGIN:g},",
        "short": f"more than {MARGIN:g} below it",
    }
    by_verdict = {verdict: rows[rows["verdict"] == verdict] for verdict in verdicts}
    said = [
        f"{verdicts[verdict]} at {listed(f'{row.rung} ({_difference(row)})' for _, row in mine.iterrows())}"
        for verdict, mine in by_verdict.items()
        if len(mine)
    ]
    beyond = [rung for rung in rungs if rung not in set(rows["rung"])]
    unknown = [f"not known at {listed(beyond)}, beyond its own ladder"] if beyond else []
    return _sentence(f"{the(family)} at the size of the cross-encoder's rungs: {'; '.join([*said, *unknown])}")


def _difference(row: Mapping) -> str:
    """Return a difference with its interval; – where there is none."""
    if math.isnan(row["difference"]):
        return "–"
    return f"{row['difference']:+.3f} [{row['difference_lo']:+.3f}, {row['difference_hi']:+.3f}]"


def winners_table(winners: pd.DataFrame, cost: str) -> HTML:
    """Return the winners at the budgets of one cost as a page shows them."""
    rows = winners[winners["cost"] == cost]
    written = {
        "budget": [amount(cost, value) for value in rows["budget"]],
        "winner": rows["winner"].map(NAMES),
        "value": [f"{row['value']:.3f} [{row['lo']:.3f}, {row['hi']:.3f}]" for _, row in rows.iterrows()],
        "second": rows["second"].map(NAMES),
        "lead": [_difference(row) for _, row in rows.iterrows()],
        "p_holm": rows["p_holm"].map(_p),
    }
    return shown(rows.assign(**written), budget=f"{COSTS[cost]}|s", winner="best", verdict="verdict", lead="lead|s",
                 second="over", option="the best option", value="value|s", p_holm="p|s")  # fmt: skip


def equal_size_table(table: pd.DataFrame) -> HTML:
    """Return `family_comparison.at_equal_size` as a page shows it."""
    if table.empty:
        return HTML("")
    differences = [_difference(row) for _, row in table.iterrows()]
    rows = table.assign(family=table["family"].map(NAMES), difference=differences, p_holm=table["p_holm"].map(_p))
    return shown(rows, rung="size of", params_non_embedding="non-embedding|,.0f", family="family", verdict="verdict",
                 difference="less the cross-encoder|s", value="value|.3f", reference_value="cross-encoder|.3f",
                 p_holm="p|s")  # fmt: skip
