"""What pages say of models together with the first stage."""

import pandas as pd
from IPython.display import HTML

from rankscale_utils.measurements.table import INTERPOLATED, on_headline_test

from . import tables

SAME = ["objective", "rung", "collection", "task", "score"]  # columns of one model on one test
ASK = "What the two reach together is measured where the study says “with_first_stage: yes”."


def together_sentences(found: pd.DataFrame, *, asked: bool = True, test: str | None = None) -> list[str]:
    """Say what the largest model reaches together with the first stage, on the headline test; or how to ask for it.

    found: from `analysis.on_tests.rungs_with_first_stage`; asked: whether the study measures it; test: as in
    `on_headline_test`.
    """
    if not asked:
        return [ASK]
    rows = on_headline_test(found[found["metric"].str.endswith(INTERPOLATED)], test) if len(found) else found
    if rows.empty:
        return []
    largest = rows[rows["params_non_embedding"] == rows["params_non_embedding"].max()]
    best = largest.loc[largest["value"].idxmax()]  # of its objectives
    fused = found[found["metric"].ne(best["metric"]) & found[SAME].eq(best[SAME]).all(axis=1)]
    by_ranks = f"; by their ranks alone {fused['value'].iloc[0]:.4f}{_apart(fused.iloc[0])}" if len(fused) else ""
    return [
        f"Together with the first stage, scores interpolated, {best['rung']} trained {best['objective']} reaches "
        f"{best['metric'].removesuffix(INTERPOLATED)} {best['value']:.4f} on {tables.test_of(rows)}, where the first "
        f"stage alone has {best['first_stage']:.4f}{_apart(best)}{by_ranks}."
    ]


def _apart(row: pd.Series) -> str:
    """Return how far a value is from the first stage's own, in brackets with its interval where there is one."""
    if pd.isna(row["over_first_stage_lo"]):
        return f" ({row['over_first_stage']:+.4f})"
    return f" ({row['over_first_stage']:+.4f} [{row['over_first_stage_lo']:+.4f}, {row['over_first_stage_hi']:+.4f}])"


def together_table(found: pd.DataFrame) -> HTML:
    """Return what every rung reaches together with the first stage on every test; nothing where it was not measured."""
    if found.empty:
        return HTML("")
    return tables.styled(
        found,
        **tables.collection_column(found),
        metric="metric",
        objective="objective",
        rung="rung",
        first_stage="first stage|.4f",
        value="together|.4f",
        over_first_stage="more than the first stage|+.4f",
        over_first_stage_lo="from|+.4f",
        over_first_stage_hi="to|+.4f",
    )
