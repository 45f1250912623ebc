"""What the page 2_evaluate shows of a run."""

from collections.abc import Iterable

import pandas as pd
from IPython.display import HTML
from matplotlib.axes import Axes

from rankscale_utils.measurements.table import OWN, first_collection, headline, labelled
from rankscale_utils.study.study import Study

from . import figures, tables


def metrics_table(table: pd.DataFrame) -> HTML:
    """Return one run's metrics, a row for each collection, with a column an exposure and the candidates' limits."""
    keys, table = ["collection", "metric"], labelled(table)
    wide = table.pivot_table(index=keys, columns="exposure", values="value", sort=False).sort_index(axis="columns")
    exposures = {f"at_{exposure:.0f}": f"{exposure:,.0f}|.4f" for exposure in wide}
    limits = table.groupby(keys, sort=False)[["first_stage", "ceiling"]].first()
    return tables.styled(
        wide.set_axis(list(exposures), axis="columns").join(limits).reset_index(),
        **tables.collection_column(table),
        metric="metric",
        **exposures,
        first_stage="first stage|.4f",
        ceiling="ceiling|.4f",
    )


def last_checkpoint_sentence(study: Study, table: pd.DataFrame) -> str:
    """Say what the run's last checkpoint reached on the first collection, beside its first stage and its ceiling."""
    metric = headline(study, table)
    rows = table[(table["metric"] == metric) & (table["score"] == OWN)]
    last = first_collection(rows).sort_values("exposure").iloc[-1]
    beats = "above" if last["value"] > last["first_stage"] else "below"
    excluded = f" It is excluded from fits: {last['excluded']}." if last["excluded"] else ""
    return (
        f"After {last['exposure']:,.0f} pairs {metric} is {last['value']:.4f}, {beats} the candidates' own order "
        f"({last['first_stage']:.4f}); a perfect reranking would reach {last['ceiling']:.4f}.{excluded}"
    )


def run_by_exposure(table: pd.DataFrame, metrics: Iterable[str]) -> list[Axes]:
    """One run's metrics against exposure, with the first stage's value and the candidates' ceiling, a panel each."""
    panels, table = [], labelled(table)
    shown = table[table["metric"].isin(list(metrics))].sort_values("exposure", kind="stable")
    for (metric, collection), rows in shown.groupby(["metric", "collection"], sort=False):
        axes = figures.panel(metric + figures.where(collection, table), "training pairs seen", figures.unit(metric))
        axes.plot(rows["exposure"], rows["value"], "o-", color=figures.colour_of(rows["objective"].iloc[0]), ms=5)
        figures.log_axis(axes)
        for name, style in (("ceiling", ":"), ("first_stage", "--")):
            if pd.notna(rows[name].iloc[0]):
                figures.level_line(axes, rows[name].iloc[0], name.replace("_", " "), style)
        panels.append(axes)
    return panels
