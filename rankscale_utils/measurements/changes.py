"""What was dropped, filled in or read otherwise than written, so that a page can say so."""

from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd


class Change(NamedTuple):
    """What was done on reading, to how many, and where."""

    what: str
    count: int
    where: str


def change_table(changes: Iterable[Change]) -> pd.DataFrame:
    """Return the changes that were made: what, count, where; one row each."""
    made = [change for change in changes if change.count]
    return pd.DataFrame(made, columns=Change._fields)
