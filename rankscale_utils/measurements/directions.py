"""Which way a metric improves: stated, or known by its name; never guessed, and never against what all runs say."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from rankscale_utils.errors import StudyError

RISES, FALLS = "rises", "falls"
Directions = Mapping[str, str]  # metric: rises or falls
UNSTATED: Directions = {}

# ir-measures' own names, as it spells them; `ERR` is its expected reciprocal rank, not an error.
MEASURES = {
    *("AP", "AP_IA", "Accuracy", "BPM", "BPref", "Bpref", "Compat", "ERR", "ERR_IA", "INSQ", "INST", "IPrec", "Judged"),
    *("MAP", "MAP_IA", "MRR", "NDCG", "NERR10", "NERR11", "NERR8", "NERR9", "NRBP", "NumRelRet", "P", "P_IA"),
    *("Precision", "R", "RBP", "RPrec", "RR", "Recall", "Rprec", "SDCG", "SetAP", "SetF", "SetP", "SetR", "SetRelP"),
    *("StRecall", "Success", "alpha_DCG", "alpha_nDCG", "infAP", "nDCG", "nERR_IA", "nERR", "nNRBP", "α_DCG"),
    "α_nDCG",
}
# Words of a name, in lower case; digits behind one say nothing more.
RISING = re.compile(
    r"(n?dcg|m?rr|map|ap|[rp]\d|recall|precision|success|hits?|hitrate|acc|accuracy|f1|auc|auroc|auprc|em|bleu|rouge|meteor"
    r"|chrf|mcc|spearman|pearson|kendall|m?iou)\d*"
)
FALLING = re.compile(
    r"(ce|\w*entropy|\w*loss|losses|x?ent|nll|\w*perplexity|ppl|bp[bcw]|bits|nats|errors?|[wct]er|r?mse|mae|mape|brier|ece"
    r"|kl|divergence|regret|surprisal)\d*"
)
CHANCE = 0.05  # with which values without a trend may seem to go one way in every run


def rising(metric: str, stated: Directions = UNSTATED) -> bool:
    """Whether more is better.

    Raises:
        StudyError: nobody states it, and the name does not say it.
    """
    direction = stated.get(metric) or known_direction(metric)
    if direction is None:
        raise StudyError(unknown(metric))
    return direction == RISES


def known_direction(metric: str) -> str | None:
    """Return the direction that a name tells; None where it tells none, or both."""
    if re.split(r"[(@\s]", metric.strip(), maxsplit=1)[0] in MEASURES:
        return RISES
    words = re.findall(r"[^\W\d_]+\d*", metric.lower())
    told = {RISES: any(map(RISING.fullmatch, words)), FALLS: any(map(FALLING.fullmatch, words))}
    return None if told[RISES] == told[FALLS] else RISES if told[RISES] else FALLS


def unknown(metric: str, others: Iterable[str] = (), seen: str | None = None) -> str:
    """Return a sentence that asks for a metric's direction; `seen` is what the values say, `others` are wanted too."""
    written = ", ".join([f"{metric}: {seen or f'{RISES} or {FALLS}'}", *others])
    told = f" (its values say in every run that it {seen})" if seen else ""
    return (
        f"whether {metric} rises or falls as models improve is not known by its name{told}: write "
        f"metrics: {{{written}}} among the fields of forecasting, or the same as metrics={{…}} in Python."
    )


def check_directions(table: pd.DataFrame, metrics: Sequence[str] | Directions, held_out: Sequence[str]) -> None:
    """Make sure that every wanted metric's direction is stated or known by its name, and not against the values.

    table: measurements; metrics: those wanted, all where there are none, perhaps with their directions; held_out: rungs
    whose values may not speak against a direction.

    Raises:
        StudyError: a direction is not known, or every run of every series goes the other way.
    """
    fitted = table[~table["rung"].isin(held_out)]
    stated = metrics if isinstance(metrics, Mapping) else UNSTATED
    wanted = [metric for metric in table["metric"].unique() if metric in (metrics or [metric])]
    for metric in wanted:
        said, seen = stated.get(metric) or known_direction(metric), seen_direction(fitted, metric)
        if said is None:
            others = [f"{one}: {stated.get(one) or known_direction(one) or '…'}" for one in wanted if one != metric]
            raise StudyError(unknown(metric, others, seen))
        if seen not in (None, said):
            how = "stated to be one that" if metric in stated else "by its name one that"
            raise StudyError(
                f"{metric} is {how} {said} as models improve, but {_evidence(fitted, metric)}: write "
                f"metrics: {{{metric}: {seen}}} if that is an improvement, correct the values, or leave {metric} out."
            )


def seen_direction(table: pd.DataFrame, metric: str) -> str | None:
    """Return which way a metric goes where it goes one way everywhere, from rung to rung and within every run.

    None where a single step goes another way or stands still, or where there are so few steps that values without any
    trend would all go one way in more than one of twenty tables.
    """
    rows = table[(table["metric"] == metric) & table["value"].notna()]
    chance, signs = 1.0, []
    for _, series in rows.groupby(["objective", "collection", "task", "score"], sort=False):
        ends = series[series["exposure"] == series.groupby("run")["exposure"].transform("max")]
        by_size = ends.groupby("params_non_embedding")["value"].mean()
        signs += list(np.sign(np.diff(by_size)))
        chance /= math.factorial(len(by_size))
        for _, run in series.sort_values("exposure", kind="stable").groupby("run", sort=False):
            if len(run) > 1:
                signs.append(np.sign(run["value"].iloc[-1] - run["value"].iloc[0]))
                chance /= 2
    if chance > CHANCE or len(set(signs)) != 1 or signs[0] == 0:
        return None
    return RISES if signs[0] > 0 else FALLS


def _evidence(table: pd.DataFrame, metric: str) -> str:
    """Say what the values of the first series do."""
    rows = table[(table["metric"] == metric) & table["value"].notna()]
    rows = rows[(rows["objective"] == rows["objective"].iloc[0]) & (rows["collection"] == rows["collection"].iloc[0])]
    ends = rows.loc[rows.groupby("run")["exposure"].idxmax()].sort_values("params_non_embedding")
    first, last = ends.iloc[0], ends.iloc[-1]
    way = "fall" if last["value"] < first["value"] else "rise"
    return (
        f"its values {way} wherever models grow or see more ({first['objective']} on {first['collection']}: "
        f"{first['value']:.4g} on {first['rung']}, {last['value']:.4g} on {last['rung']})"
    )
