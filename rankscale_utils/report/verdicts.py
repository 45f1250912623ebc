"""What pages say first of series that cannot be forecast from their runs, and the table of these verdicts."""

from collections.abc import Sequence

import pandas as pd
from IPython.display import HTML

from rankscale_utils.machine.files import read_json
from rankscale_utils.measurements.table import labelled
from rankscale_utils.study import paths
from rankscale_utils.study.study import Study

from . import tables
from .prose import listed

SAID = 6  # series that are named one by one


def verdict_sentences(verdicts: pd.DataFrame) -> list[str]:
    """Say which series are not predictable from these runs, why, and which metric is; nothing where all are."""
    rows = labelled(verdicts[~verdicts["predictable"].astype(bool)])
    several = verdicts["collection"].nunique() > 1
    said = [
        f"Not predictable from these runs: {row['metric']} of {row['objective']}"
        f"{' on ' + row['collection'] if several else ''}, for {row['reason']}.{_instead(row['instead'])}"
        for row in rows.head(SAID).to_dict("records")
    ]
    if len(rows) > SAID:
        said.append(f"{len(rows)} of {len(verdicts)} series are not predictable; predictability.csv names them all.")
    return said + order_sentences(verdicts)


def whole_sentence(rungs: Sequence[str]) -> str:
    """Say what to expect of forecasts of rungs that are all of a model whose first layers the fitted ones are."""
    return (
        f"{listed(rungs)} {'is' if len(rungs) == 1 else 'are'} all of a model that was finished before this study, and "
        "the fitted rungs are its first layers, which rank little by themselves: it starts where they do not, so that "
        "their laws need not reach it. A rung that is cut as they are would continue them."
    )


def whole_sentences(study: Study) -> list[str]:
    """Return that sentence where a study that trains has such rungs."""
    rungs = read_json(paths.ladder_file(study.folder)).get("whole", []) if study.runs else []
    return [whole_sentence(rungs)] if rungs else []


def _instead(metric: str) -> str:
    return (
        f" {metric} of the same runs is."
        if isinstance(metric, str) and metric
        else " No other metric of these runs is."
    )


def order_sentences(verdicts: pd.DataFrame) -> list[str]:
    """Say by which metrics the smallest rung orders objectives no better than chance."""
    place = ["metric", "collection", "task", "score"]
    rows = labelled(verdicts[verdicts["decision_accuracy"] <= 0.5].drop_duplicates(place))
    if rows.empty:
        return []
    named = listed(
        f"{row['metric']} on {row['collection']} ({row['decision_accuracy']:.0%} of {row['pairs']:.0f})"
        for row in rows.to_dict("records")
    )
    return [
        "Which objective is best is not predictable from the smallest rung: of the pairs that the largest fitted one "
        f"tells apart it orders no more than half alike, by {named}."
    ]


def predictability_table(verdicts: pd.DataFrame) -> HTML:
    """Return every series' verdict with what it rests on."""
    judged = verdicts["judged_smallest"].notna().any()
    return tables.styled(
        verdicts,
        objective="objective",
        **tables.collection_column(verdicts),
        metric="metric",
        smallest="smallest rung|.4f",
        largest="largest fitted|.4f",
        signal_to_noise="signal to noise|.1f",
        chance="noise alone|.1%",
        **({"judged_smallest": "judged, smallest|.0%", "judged_largest": "judged, largest|.0%"} if judged else {}),
        decision_accuracy="objectives ordered alike|.0%",
        predictable="predictable",
        reason="because",
    )
