"""What pages say of fitted runs that are unlike the others."""

from collections.abc import Mapping

import pandas as pd
from IPython.display import HTML

from rankscale_utils.analysis.forecast import intervals
from rankscale_utils.analysis.strange_runs import FAR, PAST_BEST
from rankscale_utils.measurements.table import labelled

from . import tables

SAID = 4  # runs of a kind that are named one by one


def strange_sentences(strange: pd.DataFrame) -> list[str]:
    """Say which runs are unlike the others, how far, and what to do, a sentence a run; nothing where none is."""
    said = []
    for kind, say in ((FAR, _far), (PAST_BEST, _past_best)):
        rows = labelled(strange[strange["kind"] == kind])
        runs = rows.drop_duplicates("run")
        said += [say(row) for row in runs.head(SAID).to_dict("records")]
        if len(runs) > SAID:
            said.append(f"{len(runs)} runs are {kind}; strange_runs.csv names them all.")
    return said


def _far(row: Mapping) -> str:
    without = (
        f" Without it {row['target']} is forecast {row['without']:.4f} [{row['without_lo']:.4f}, "
        f"{row['without_hi']:.4f}], with it {row['forecast']:.4f} [{row['forecast_lo']:.4f}, {row['forecast_hi']:.4f}]."
        if pd.notna(row["without"])
        else ""
    )
    return (
        f"{row['run']} is far from the other runs: its {row['metric']} on {row['collection']} is {row['value']:.4f}, "
        f"where these have {row['expected']:.4f} [{row['lo']:.4f}, {row['hi']:.4f}] expected.{without} Look at its "
        "training, and train another seed before you believe either."
    )


def _past_best(row: Mapping) -> str:
    return (
        f"{row['run']} is past its best: its {row['metric']} on {row['collection']} went from {row['best']:.4f} after "
        f"{row['best_exposure']:,.0f} to {row['value']:.4f} after {row['exposure']:,.0f}, by {row['noises']:.1f} times "
        "the noise of a checkpoint. No law here turns back: end such runs earlier, or forecast the best value so far "
        "(forecasting.value: best)."
    )


def without_table(strange: pd.DataFrame) -> HTML:
    """Return the forecasts without each far run beside those with it; nothing where there is none."""
    rows = strange[strange["without"].notna()]
    if rows.empty:
        return HTML("")
    pairs = (["forecast_lo", "forecast_hi"], ["without_lo", "without_hi"])
    said = [intervals(rows[pair].set_axis(["lo", "hi"], axis="columns")) for pair in pairs]
    return tables.styled(
        rows.assign(with_interval=said[0], without_interval=said[1]),
        run="far run",
        **tables.collection_column(strange),
        metric="metric",
        value="measured|.4f",
        expected="by the others|.4f",
        target="rung",
        forecast="forecast|.4f",
        with_interval="interval",
        without="without it|.4f",
        without_interval="interval",
    )
