"""A page that has nothing to say ends with its reason, and the report is rendered all the same."""

import pandas as pd

from rankscale_utils.analysis.allocate import AllocationResults
from rankscale_utils.analysis.fit import Fitted, series_left_out
from rankscale_utils.measurements.table import labelled
from rankscale_utils.study.study import Study


class PageEnds(Exception):
    """Ends a notebook with a sentence: `pipeline.papermill_engine` shows it in place of what follows."""

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows of it: the sentence alone."""
        return [str(self)]


def end_page_without_series(study: Study, found: list[Fitted] | AllocationResults | None) -> None:
    """End a page of laws where no series could be fitted.

    Raises:
        PageEnds: there is none; the message says why.
    """
    if not found:
        raise PageEnds(nothing_sentence(series_left_out(study)))


def nothing_sentence(left_out: pd.DataFrame) -> str:
    """Say that nothing is forecast, why, and what to try."""
    said = [
        f"{row['objective']}, {row['metric']} on {row['collection']}: {row['reason']}"
        for row in labelled(left_out).to_dict("records")
    ]
    why = f"There is no forecast and no advice, as no series can be fitted. {'; '.join(said)}."
    return f"{why}{remedy_sentence(left_out)}"


def remedy_sentence(left_out: pd.DataFrame) -> str:
    """Say what to try for series that are left out, after a blank; or nothing."""
    remedies = [remedy for remedy in left_out["remedy"].dropna().unique() if remedy]
    return f" What may help: {'; '.join(remedies)}." if remedies else ""
