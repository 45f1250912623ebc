"""Results as files: written whole, read again to the last digit, and without numbers that have no end.

What is no number, or has no limit, is an empty cell, or null; an interval whose upper end is empty has no upper end.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rankscale_utils.machine.files import readable, result_file


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV without its index, whole or not at all; a notebook run by hand writes none."""
    numbers = table.select_dtypes("float")
    with result_file(path) as temporary:
        table.assign(**numbers.where(np.isfinite(numbers))).to_csv(temporary, index=False)


def finite(value: Any) -> Any:
    """Return lists and dictionaries of plain values as JSON has them: null in place of what is no finite number."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_table(path: Path) -> pd.DataFrame:
    """Return the table that `write_table` wrote; one without columns comes back without rows."""
    with readable(path):
        try:
            return pd.read_csv(path, keep_default_na=False, na_values=[""])  # NA and None are labels
        except pd.errors.EmptyDataError:
            return pd.DataFrame()
