"""The tables that a study wrote, by name, each read when it is asked for."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from rankscale_utils.errors import StudyError


class NoTable(StudyError, KeyError):
    """A study has not written a table; a KeyError too, so that `get` and `in` do as with any mapping."""

    __str__ = Exception.__str__


class Results(Mapping[str, pd.DataFrame]):
    """A study's tables by the names of their files, which `docs/results.md` describes: forecasts, allocation, …"""

    def __init__(self, folder: Path) -> None:
        """Find the tables in a study's folder of results."""
        self.folder = folder
        found = sorted(path for path in folder.glob("*") if path.suffix in (".csv", ".parquet"))
        self.files = {path.stem: path for path in found}

    def __getitem__(self, name: str) -> pd.DataFrame:
        """Return a table; raise NoTable, a StudyError and KeyError, where the study has not written it."""
        if name not in self.files:
            known = ", ".join(self.files) or "none yet"
            raise NoTable(
                f"{self.folder} has no table {name!r}: those that there are: {known}; "
                f"`make study STUDY={self.folder.name}` writes them."
            )
        path = self.files[name]
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        try:
            return pd.read_csv(path, keep_default_na=False, na_values=[""])  # NA and None are labels
        except pd.errors.EmptyDataError:  # a table without columns
            return pd.DataFrame()

    def __contains__(self, name: object) -> bool:
        """Whether the study has written a table of that name."""
        return name in self.files

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.files)

    def __len__(self) -> int:
        """Return how many tables there are."""
        return len(self.files)

    def __repr__(self) -> str:
        """Name the tables."""
        return f"Results of {self.folder.name}: {', '.join(self.files) or 'none yet'}"
