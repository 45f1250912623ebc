"""What pages say of the runs that should be trained next."""

from collections.abc import Mapping

import pandas as pd
from IPython.display import HTML

from rankscale_utils.analysis.compute import units_in_words
from rankscale_utils.study.study import Study

from . import tables
from .prose import amount, si

NOTHING_NARROWS = "No run for half the price of the large one would narrow its forecast by two percent or more."


def run_in_words(study: Study, row: Mapping) -> str:
    """Say what is to be trained next: which rung, how large, on how much, and by which objective."""
    sizes, exposures = units_in_words(study)
    kind = "another seed of" if row["kind"] == "another seed" else "a new rung"
    trained = f"{si(row['N'])} {sizes} trained on {si(row['D'])} {exposures}"
    return f"{kind} {row['rung']}, {trained} ({row['objective']}, {amount('flops', row['flops'])} FLOPs)"


def next_run_sentence(study: Study, planned: pd.DataFrame) -> str:
    """Say which run to train next, and what it would be worth."""
    if planned.empty:
        return NOTHING_NARROWS
    rows = planned[planned["objective"] == planned["objective"].iloc[0]]
    first, last = rows.iloc[0], rows.iloc[-1]
    more = (
        f"; the {len(rows)} runs of the table together would make it ±{last['half_width_after']:.4f}"
        if len(rows) > 1
        else ""
    )
    return (
        f"Train this before the large one: {run_in_words(study, first)}. It would narrow the forecast from "
        f"±{first['half_width_now']:.4f} to ±{first['half_width_after']:.4f}{more}, if noise is as large at every size."
    )


def next_runs_table(study: Study, planned: pd.DataFrame) -> HTML:
    """Return the runs to train next, in order."""
    sizes, exposures = units_in_words(study)
    return tables.styled(
        planned,
        objective="objective",
        kind="kind",
        rung="rung",
        N=f"{sizes}|si",
        D=f"{exposures}|si",
        flops="FLOPs|.2e",
        cumulative_flops="FLOPs so far|.2e",
        half_width_now="half width|.4f",
        half_width_after="then|.4f",
    )
