"""What the page 8_families shows: which family wins at which cost, and at equal size."""

import math
from collections.abc import Iterable, Mapping
from itertools import groupby

import pandas as pd
from IPython.display import HTML
from matplotlib.axes import Axes

from rankscale_utils.analysis.families import COSTS, FAMILY_NAMES, MARGIN, Comparison, Options
from rankscale_utils.analysis.speedup import pareto_front
from rankscale_utils.study.study import Study

from . import figures, tables
from .prose import amount, listed, p_in_words


def answer_sentence(winners: pd.DataFrame) -> str:
    """Say in one sentence which family wins at which cost; winners: of all costs, as in `families.csv`."""
    first = winners.iloc[0]
    return (
        f"Which family ranks best, by {first['metric']} on {first['collection']}: {'; '.join(_costs(winners))}. "
        f"{first_stage_sentence(winners)}"
    )


def first_stage_sentence(winners: pd.DataFrame) -> str:
    """Say how often the best family ranks better than the candidates' own order."""
    better, worse = (winners["gain_lo"] > 0).sum(), (winners["gain_hi"] < 0).sum()
    return (
        f"The best family ranks above the candidates' own order at {better or 'none'} of these {len(winners)} budgets "
        f"and below it at {worse or 'none'}, by the whole interval."
    )


def wins_sentences(winners: pd.DataFrame) -> list[str]:
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
    return FAMILY_NAMES[family] if family == "ed2lm" else f"the {FAMILY_NAMES[family]}"


def _outcome(row: dict) -> str:
    if row["verdict"] == "a tie":
        return f"a tie of {listed(sorted(the(row[place]) for place in ('winner', 'second')))}"
    return f"{the(row['winner'])}{' alone' if row['verdict'] == 'alone' else ''}"


def _reach(cost: str, rows: list[dict]) -> str:
    low, high = (amount(cost, rows[place]["budget"]) for place in (0, -1))
    return f"at {low}" if low == high else f"from {low} to {high}"


def _lead(row: pd.Series) -> str:
    best = (
        f"Within {amount(row['cost'], row['budget'])} {COSTS[row['cost']]} the best {FAMILY_NAMES[row['winner']]} "
        f"({row['option']}) reaches {row['value']:.3f} [{row['lo']:.3f}, {row['hi']:.3f}]"
    )
    if row["verdict"] == "alone":
        return f"{best}."
    return (
        f"{best}, {_difference(row)} beside the best {FAMILY_NAMES[row['second']]} ({row['second_option']}); "
        f"Holm-corrected p: {p_in_words(row['p_holm'])}."
    )


def absent_sentences(study: Study, comparison: Comparison) -> list[str]:
    """Name the families of which no checkpoint is a measurement."""
    left = set(comparison.trained.table["family"])
    return [
        f"No run of {the(family)} left a usable measurement, so it is not compared."
        for family in study.families
        if family not in left
    ]


def equal_size_sentences(comparison: Comparison) -> list[str]:
    """Say for every other family at which of the cross-encoder's sizes it keeps its quality, a sentence a family."""
    table, options = comparison.equal_size, comparison.trained
    rungs = options.table.loc[options.table["family"] == "cross_encoder", "rung"].unique()
    if table.empty:
        return ["No family's ladder spans a size that the cross-encoder has, so none is compared at equal size."]
    return [_kept(family, rows, rungs, options.metric) for family, rows in table.groupby("family", sort=False)]


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
        "winner": rows["winner"].map(FAMILY_NAMES),
        "value": [f"{row['value']:.3f} [{row['lo']:.3f}, {row['hi']:.3f}]" for _, row in rows.iterrows()],
        "second": rows["second"].map(FAMILY_NAMES),
        "lead": [_difference(row) for _, row in rows.iterrows()],
        "p_holm": rows["p_holm"].map(p_in_words),
    }
    return tables.styled(
        rows.assign(**written),
        budget=f"{COSTS[cost]}|s",
        winner="best",
        verdict="verdict",
        lead="lead|s",
        second="over",
        option="the best option",
        value="value|s",
        p_holm="p|s",
    )


def equal_size_table(table: pd.DataFrame) -> HTML:
    """Return `compare_at_equal_size` as a page shows it."""
    if table.empty:
        return HTML("")
    differences = [_difference(row) for _, row in table.iterrows()]
    rows = table.assign(
        family=table["family"].map(FAMILY_NAMES), difference=differences, p_holm=table["p_holm"].map(p_in_words)
    )
    return tables.styled(
        rows,
        rung="size of",
        params_non_embedding="non-embedding|,.0f",
        family="family",
        verdict="verdict",
        difference="less the cross-encoder|s",
        value="value|.3f",
        reference_value="cross-encoder|.3f",
        p_holm="p|s",
    )


def quality_and_training(options: Options, searched: Options | None = None) -> Axes:
    """Quality against training FLOPs: every checkpoint, and a line with a band for each family's best so far.

    searched: the bi-encoder's checkpoints on what they find themselves, dotted.
    """
    axes = figures.panel(f"{options.metric} against training", "training FLOPs", options.metric)
    end = options.table["flops"].max()
    for family, rows in options.table.groupby("family", sort=False):
        colour = figures.FAMILY_COLOURS[family]
        axes.plot(rows["flops"], rows["value"], "o", color=colour, ms=3, alpha=0.5)
        _best_so_far(axes, rows, end, colour, band=True, label=FAMILY_NAMES[family])
    if searched is not None:
        label = f"{FAMILY_NAMES['bi_encoder']}, its own search"
        _best_so_far(axes, searched.table, end, figures.FAMILY_COLOURS["bi_encoder"], ls=":", label=label)
    _own_order(axes, options)
    figures.log_axis(axes)
    axes.figure.legend(loc="outside lower center", ncols=2)
    return axes


def _best_so_far(axes: Axes, rows: pd.DataFrame, end: float, colour: str, band: bool = False, **how: object) -> None:
    """Draw the highest value that costs no more, in steps up to `end`, with its interval as a band."""
    front = pareto_front(rows, "flops")
    front = pd.concat([front, front.tail(1).assign(flops=end)])
    axes.step(front["flops"], front["value"], where="post", color=colour, lw=1.6, **how)
    if band:
        ends = front["lo"], front["hi"]
        axes.fill_between(front["flops"], *ends, step="post", color=colour, alpha=figures.BAND, lw=0)


def quality_and_serving(options: Options) -> list[Axes]:
    """Quality against serving FLOPs a pair at the deepest reranking, and against latency at every depth.

    A dot a system and rung with its interval; lines are Pareto fronts.
    """
    deepest = options.deepest.table
    counted = dict.fromkeys(("cost", "flops_low", "flops_high"), deepest["flops_per_pair"])  # without a spread
    return [
        figures.quality_against(
            deepest.assign(**counted), "serving", "serving FLOPs a pair", "flops_per_pair", "flops"
        ),
        figures.quality_and_latency(options.table),
    ]


def _own_order(axes: Axes, options: Options) -> None:
    """Draw the value of the candidates' own order."""
    figures.level_line(axes, options.first_stage.mean(), "candidates' own order")
