"""What numbers lie between: a random order, the first stage's own and a perfect one of the same documents."""

import pandas as pd
from IPython.display import HTML

from rankscale_utils.measurements.reading import study_measurements
from rankscale_utils.measurements.table import at_chance, labelled
from rankscale_utils.study.study import Study

from . import tables
from .prose import listed

HEADINGS = {"random_order": "random order|.4f", "first_stage": "first stage|.4f", "ceiling": "ceiling|.4f"}


def reference_columns(table: pd.DataFrame) -> dict[str, str]:
    """Return the headings of the references that a table of measurements has."""
    return {name: heading for name, heading in HEADINGS.items() if name in table and table[name].notna().any()}


def absent(table: pd.DataFrame) -> list[str]:
    """Say which references a table of measurements does not have."""
    lost = [heading.partition("|")[0] for name, heading in HEADINGS.items() if name not in reference_columns(table)]
    return [f"The measurements do not tell {listed(lost)}, so nothing is compared with them."] if lost else []


def references_table(table: pd.DataFrame) -> HTML:
    """Return what else every metric of some measurements could be, a row a metric; nothing where that is not known."""
    columns = reference_columns(table)
    if not columns:
        return HTML("")
    keys = ["collection", "metric"]
    rows = labelled(table).groupby(keys, sort=False)[list(columns)].first().reset_index()
    return tables.styled(
        rows.dropna(how="all", subset=list(columns)), **tables.collection_column(rows), metric="metric", **columns
    )


def study_references(study: Study) -> HTML:
    """Return `references_table` of a study, without opening held-out runs, or a sentence where it has no rows."""
    table = references_table(study_measurements(study, fitted_only=True))
    return table if table.data else tables.finding("These measurements do not tell what other orders reach.")


def chance_sentence(ends: pd.DataFrame) -> str:
    """Say by which metrics a run's last checkpoint is no better than a random order; or nothing."""
    lost = ends[at_chance(ends)]
    if lost.empty:
        return ""
    said = [f"{row['metric']} {row['value']:.4f} against {row['random_order']:.4f}" for _, row in lost.iterrows()]
    return (
        f"Not shown to be better than a random order: {listed(said)}. Of a ladder without a better run nothing is "
        "forecast: try random negatives (training.groups.random), more pairs or other learning rates."
    )
