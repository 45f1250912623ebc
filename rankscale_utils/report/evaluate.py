"""What the page 2_evaluate shows of a run."""

from collections.abc import Iterable

import pandas as pd
from IPython.display import HTML
from matplotlib.axes import Axes

from rankscale_utils.measurements.table import OWN, headline, headlines, labelled, on_headline_test
from rankscale_utils.study.study import Study

from . import figures, references, tables
from .references import reference_columns


def metrics_table(table: pd.DataFrame) -> HTML:
    """Return one run's metrics, a row for each collection, with a column an exposure and the candidates' limits."""
    keys, table = ["collection", "metric"], labelled(table)
    wide = table.pivot_table(index=keys, columns="exposure", values="value", sort=False).sort_index(axis="columns")
    exposures = {f"at_{exposure:.0f}": f"{exposure:,.0f}|.4f" for exposure in wide}
    columns = reference_columns(table)
    limits = table.groupby(keys, sort=False)[list(columns)].first()
    return tables.styled(
        wide.set_axis(list(exposures), axis="columns").join(limits).reset_index(),
        **tables.collection_column(table),
        metric="metric",
        **exposures,
        **columns,
    )


def last_checkpoint_sentence(study: Study, table: pd.DataFrame) -> str:
    """Say what the run's last checkpoint reached on the headline test, beside other orders of the same documents."""
    metric = headline(study, table)
    rows = on_headline_test(table[(table["metric"] == metric) & (table["score"] == OWN)], study.headline_test)
    last = rows.sort_values("exposure").iloc[-1]
    beats = "above" if last["value"] > last["first_stage"] else "below"
    excluded = f" It is excluded from fits: {last['excluded']}." if last["excluded"] else ""
    return (
        f"After {last['exposure']:,.0f} pairs {metric} on {tables.test_of(rows)} is {last['value']:.4f}, {beats} the "
        f"candidates' own order ({last['first_stage']:.4f}); a random order of them reaches {last['random_order']:.4f} "
        f"on average, a perfect reranking {last['ceiling']:.4f}.{excluded}"
    )


def chance_sentences(study: Study, table: pd.DataFrame) -> list[str]:
    """Say by which headline metrics the last checkpoint is no better than a random order, or nothing."""
    rows = table[table["metric"].isin(headlines(study, table)) & (table["score"] == OWN)]
    shown = on_headline_test(rows, study.headline_test)
    said = references.chance_sentence(shown[shown["exposure"] == shown["exposure"].max()])
    return [said] if said else []


def run_by_exposure(table: pd.DataFrame, metrics: Iterable[str]) -> list[Axes]:
    """One run's metrics against exposure, with what other orders of the same documents reach, a panel each."""
    panels, table = [], labelled(table)
    shown = table[table["metric"].isin(list(metrics))].sort_values("exposure", kind="stable")
    for (metric, collection), rows in shown.groupby(["metric", "collection"], sort=False):
        axes = figures.panel(metric + figures.where(collection, table), "training pairs seen", figures.unit(metric))
        axes.plot(rows["exposure"], rows["value"], "o-", color=figures.colour_of(rows["objective"].iloc[0]), ms=5)
        figures.log_axis(axes)
        for name, style in (("ceiling", ":"), ("first_stage", "--"), ("random_order", "-.")):
            if pd.notna(rows[name].iloc[0]):
                figures.level_line(axes, rows[name].iloc[0], name.replace("_", " "), style)
        panels.append(axes)
    return panels
