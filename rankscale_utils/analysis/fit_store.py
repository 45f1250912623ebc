"""Fits kept on disk: their arrays as an npz with a manifest in JSON, so that opening one runs nothing that it holds."""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rankscale_utils.machine.files import digest, whole_file

MANIFEST = "manifest"  # the array that holds the manifest's bytes
Kinds = dict[str, type]  # dataclasses that a store may hold, by name


def write_store(path: Path, key: str, value: Any, kinds: Sequence[type]) -> None:
    """Write lists, tuples, dictionaries, arrays, tables, plain values and these kinds of dataclasses, under a key.

    Raises:
        TypeError: the value holds something else.
    """
    writer = _Writer(kinds)
    manifest = {"key": key, "value": writer.encoded(value)}
    manifest |= {"tables": writer.tables, "made": writer.made}
    text = np.frombuffer(json.dumps(manifest).encode(), np.uint8)
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **{MANIFEST: text}, **writer.arrays)


def read_store(path: Path, key: str, kinds: Sequence[type]) -> Any | None:
    """Return what was written under the key, equal to the bit; None where there is no such file, or no whole one.

    kinds: the dataclasses that it may hold; each must have the fields that it has now, of their types.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            manifest = json.loads(arrays[MANIFEST].tobytes())
            if manifest["key"] != key:
                return None
            known = {kind.__name__: kind for kind in kinds}
            return _Reader(arrays, manifest, known).decoded(manifest["value"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, AttributeError, zipfile.BadZipFile):
        return None  # whatever is wrong with a store, its remedy is to fit again


class _Writer:
    """Turns values into JSON; equal arrays, tables and dataclasses are kept once."""

    def __init__(self, kinds: Sequence[type]) -> None:
        self.kinds = kinds
        self.arrays: dict[str, NDArray] = {}
        self.tables: list[dict] = []
        self.made: list[dict] = []  # of the kinds, each after those that it holds
        self._places: dict[str, int] = {}
        self._known: dict[int, dict] = {}  # what was encoded already, by its identity

    def encoded(self, value: Any) -> Any:
        if not isinstance(value, pd.DataFrame) and type(value) not in self.kinds:
            return self._plain(value)
        if id(value) not in self._known:
            self._known[id(value)] = self._once(value)
        return self._known[id(value)]

    def _once(self, value: Any) -> dict:
        """Return where a table or dataclass is kept."""
        if isinstance(value, pd.DataFrame):
            return {"table": self._table(value)}
        parts = {field.name: self.encoded(getattr(value, field.name)) for field in fields(value)}
        return {"made": self._place({"kind": type(value).__name__, "fields": parts}, self.made)}

    def _plain(self, value: Any) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, np.ndarray):
            return {"array": self._array(value)}
        if isinstance(value, tuple | list):
            return {type(value).__name__: [self.encoded(item) for item in value]}
        if isinstance(value, dict):
            return {"dict": [[name, self.encoded(item)] for name, item in value.items()]}
        raise TypeError(f"a store holds no {type(value).__name__}: name it among the kinds, or keep it as plain values")

    def _array(self, array: NDArray) -> str:
        if array.dtype.hasobject:
            raise TypeError("a store holds no arrays of objects: turn them into numbers or lists")
        name = digest(str(array.dtype), str(array.shape), str(array.flags.f_contiguous), array.tobytes(), length=32)
        self.arrays[name] = array
        return name

    def _table(self, table: pd.DataFrame) -> int:
        """Return the table's place: numbers as arrays, words as they are, each column with its dtype."""
        index = table.index
        steps = [index.start, index.stop, index.step] if isinstance(index, pd.RangeIndex) else None
        columns = [[name, str(table[name].dtype), self._cells(table[name])] for name in table]
        made = {"index": steps or self._array(index.to_numpy()), "columns": columns}
        return self._place(made, self.tables)

    def _place(self, made: dict, among: list[dict]) -> int:
        """Return where it stands among what is kept once, put there where it is new."""
        content = digest(made)
        if content not in self._places:
            self._places[content] = len(among)
            among.append(made)
        return self._places[content]

    def _cells(self, column: pd.Series) -> Any:
        if isinstance(column.dtype, np.dtype) and not column.dtype.hasobject:
            return {"array": self._array(column.to_numpy())}
        return [None if cell is None or cell is pd.NA else self.encoded(cell) for cell in column]


class _Reader:
    """Turns a manifest's JSON back into values."""

    def __init__(self, arrays: np.lib.npyio.NpzFile, manifest: dict, kinds: Kinds) -> None:
        self.arrays, self.kinds = arrays, kinds
        self.tables = [self._table(table) for table in manifest["tables"]]
        self.made: list[Any] = []
        for one in manifest["made"]:
            self.made.append(self._of_kind(self.kinds[one["kind"]], one["fields"]))

    def decoded(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        ((how, held),) = value.items()
        if how == "array":
            return self.arrays[held]
        if how in ("table", "made"):
            return {"table": self.tables, "made": self.made}[how][held]
        if how == "dict":
            return {name: self.decoded(item) for name, item in held}
        return {"tuple": tuple, "list": list}[how](self.decoded(item) for item in held)

    def _of_kind(self, kind: type, parts: dict[str, Any]) -> Any:
        if set(parts) != {field.name for field in fields(kind)}:
            raise ValueError(f"{kind.__name__} has other fields now")
        made = {name: self.decoded(part) for name, part in parts.items()}
        for name, hint in get_type_hints(kind).items():
            if isinstance(hint, type) and name in made and not isinstance(made[name], hint):
                raise TypeError(f"{kind.__name__}.{name} is no {hint.__name__}")
        return kind(**made)

    def _table(self, table: dict) -> pd.DataFrame:
        index = table["index"]
        index = pd.RangeIndex(*index) if isinstance(index, list) else pd.Index(self.arrays[index])
        return pd.DataFrame({name: self._column(*column, index) for name, *column in table["columns"]}, index=index)

    def _column(self, dtype: str, cells: Any, index: pd.Index) -> pd.Series:
        values = self.arrays[cells["array"]] if isinstance(cells, dict) else cells
        return pd.Series(values, index=index, dtype=dtype)
