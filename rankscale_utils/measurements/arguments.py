"""Arguments that are tables or numbers, read as `study.arguments` wants it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rankscale_utils.study.arguments import Read, path


def table(value: Any) -> pd.DataFrame:
    """Read a table with rows, whose columns have different names."""
    if not isinstance(value, pd.DataFrame):
        raise ValueError("must be a pandas.DataFrame")
    if twice := list(value.columns[value.columns.duplicated()]):
        raise ValueError(f"must name every column once, and has {twice[0]!r} twice: rename one of them")
    if not len(value):
        raise ValueError("must have a row or more")
    return value.reset_index(drop=True)


def table_or_file(value: Any) -> pd.DataFrame | Path:
    """Read a table, or the path of a file that is there."""
    if isinstance(value, pd.DataFrame):
        return value
    try:
        given = path(value)
    except ValueError:
        raise ValueError("must be a pandas.DataFrame or a file's path") from None
    if not given.is_file():
        raise ValueError(f"{'is a folder' if given.is_dir() else 'there is no such file'}: correct the path")
    return given


def positive_numbers(of: str) -> Read:
    """Return what reads one number, or any number of them: (numbers,); of: what they count."""

    def read(value: Any) -> np.ndarray:
        given = np.atleast_1d(np.asarray(value))
        if given.dtype.kind not in "iuf" or given.ndim > 1 or not len(given):
            raise ValueError(f"each must be a positive, finite number of {of}")
        if not (np.isfinite(given) & (given > 0)).all():
            raise ValueError(f"each must be a positive, finite number of {of}")
        return given.astype(float)

    return read
