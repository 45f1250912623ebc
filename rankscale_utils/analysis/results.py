"""Results as CSV files: written whole, and read again to the last digit."""

from pathlib import Path

import pandas as pd

from rankscale_utils.machine.files import readable, result_file


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV without its index, whole or not at all; a notebook run by hand writes none."""
    with result_file(path) as temporary:
        table.to_csv(temporary, index=False)


def read_table(path: Path) -> pd.DataFrame:
    """Return the table that `write_table` wrote; one without columns comes back without rows."""
    with readable(path):
        try:
            return pd.read_csv(path, keep_default_na=False, na_values=[""])  # NA and None are labels
        except pd.errors.EmptyDataError:
            return pd.DataFrame()
