from dataclasses import dataclass, fields, is_dataclass

import numpy as np
import pandas as pd
import pytest

from rankscale_utils import laws
from rankscale_utils.analysis import fit
from rankscale_utils.analysis.fit import fit_study
from rankscale_utils.analysis.fit_store import read_store, write_store
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study


@dataclass(frozen=True)
class Point:
    name: str
    at: np.ndarray


@pytest.fixture
def brought(tmp_path, monkeypatch):
    """A study of a CSV: a metric that rises and an entropy that falls, four rungs of two seeds."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    rng, rows = np.random.default_rng(0), []
    for rung, size in {"a": 1e6, "b": 3e6, "c": 1e7, "d": 3e7}.items():
        for seed in (0, 1):
            for exposure in (1e4, 3e4, 1e5, 3e5):
                gap = 3 * size**-0.2 + 5 * exposure**-0.3 + rng.normal(0, 1e-3)
                common = {"objective": "listwise", "rung": rung, "params": size, "seed": seed, "exposure": exposure}
                rows.append(common | {"collection": "test", "metric": "nDCG@10", "value": 0.9 - gap})
                rows.append(common | {"collection": "test", "metric": "CE9", "value": 0.2 + 2 * gap})
    pd.DataFrame(rows).to_csv(tmp_path / "mine.csv", index=False)
    forecasting = "{draws: 100}"
    yaml = f"measurements: mine.csv\nheld_out: {{rungs: [d]}}\nforecasting: {forecasting}\n"
    (tmp_path / "mine.yaml").write_text(yaml)
    return load_study(str(tmp_path / "mine.yaml"))


def assert_same(one, other):
    """Assert that two values are equal to the bit, types of cells and indices included."""
    assert type(one) is type(other)
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, check_exact=True, check_index_type="exact")
        assert_same({name: one[name].tolist() for name in one}, {name: other[name].tolist() for name in other})
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    elif is_dataclass(one):
        for field in fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, dict):
        assert list(one) == list(other)
        assert_same(list(one.values()), list(other.values()))
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    else:
        assert repr(one) == repr(other)


def counted(monkeypatch):
    """Count how often series are really fitted."""
    calls, fitted = [], fit.fit_series
    monkeypatch.setattr(fit, "fit_series", lambda *of: calls.append(1) or fitted(*of))
    return calls


def test_fits_come_back_equal_to_the_bit_and_are_not_made_twice(brought, monkeypatch):
    calls = counted(monkeypatch)
    first, second = fit_study(brought), fit_study(brought)
    assert len(calls) == 1
    assert {type(draws.fit.law) for one in first for draws in one.laws.values()} > {laws.AdditiveLaw}
    assert_same(first, second)


def test_other_measurements_settings_or_code_are_fitted_anew(brought, tmp_path, monkeypatch):
    calls = counted(monkeypatch)
    fit_study(brought)
    table = (tmp_path / "mine.csv").read_text()
    (tmp_path / "mine.csv").write_text(table.replace("0.9", "0.90000001", 1) if "0.9" in table else table + "\n")
    forecasting = brought.forecasting.model_copy(update={"draws": 120})
    fit_study(brought.model_copy(update={"forecasting": forecasting}))
    assert len(calls) == 2
    code = tmp_path / "table.py"
    code.write_text("def limits(): ...")
    monkeypatch.setattr(fit, "CODE_OF_FITS", [*fit.CODE_OF_FITS, code])
    fit_study(brought)
    code.write_text("def limits(): return 0.7")
    fit_study(brought)
    assert len(calls) == 4


def test_the_key_holds_the_code_of_laws_measurements_and_the_fit_itself():
    names = {f"{file.parent.name}/{file.name}" for file in fit.CODE_OF_FITS}
    assert {"measurements/table.py", "measurements/reading.py", "laws/fitting.py", "analysis/fit.py"} < names


@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: b"no archive",
                                    lambda raw: raw[:2000] + bytes(2000) + raw[4000:]])  # fmt: skip
def test_a_damaged_store_is_made_anew_in_silence(brought, monkeypatch, capsys, damage):
    first, kept = fit_study(brought), paths.kept_fits_file(brought.folder)
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    calls = counted(monkeypatch)
    assert_same(first, fit_study(brought))
    assert len(calls) == 1
    assert kept.read_bytes() == whole
    assert capsys.readouterr().err == ""


def test_only_the_kinds_that_are_asked_for_are_made_with_the_fields_that_they_have(tmp_path):
    path = tmp_path / "store.npz"
    write_store(path, "key", [Point("one", np.arange(3.0))], [Point])
    assert_same(read_store(path, "key", [Point]), [Point("one", np.arange(3.0))])
    assert read_store(path, "other", [Point]) is None
    assert read_store(path, "key", []) is None

    @dataclass
    class Later:
        name: str
        at: np.ndarray
        more: int = 0

    Later.__name__ = "Point"
    assert read_store(path, "key", [Later]) is None
    write_store(path, "key", Point(1, np.arange(3.0)), [Point])
    assert read_store(path, "key", [Point]) is None
    for value in (Point("one", np.arange(3.0)), print, np.array([print])):
        with pytest.raises(TypeError, match="a store holds no"):
            write_store(path, "key", value, [])


def test_tables_keep_their_types_indices_and_empty_cells(tmp_path):
    table = pd.DataFrame({"word": ["a", None, "ü"], "value": [0.1 + 0.2, np.nan, -np.inf], "count": [1, 2, 3],
                          "kept": [True, False, True]}, index=[4, 2, 7])  # fmt: skip
    mixed = pd.DataFrame({"any": pd.Series([True, "x", None], dtype=object)})
    write_store(tmp_path / "store.npz", "key", (table, mixed, table.iloc[:0], {"none": None, "nan": float("nan")}), [])
    kept = read_store(tmp_path / "store.npz", "key", [])
    pd.testing.assert_frame_equal(kept[0], table, check_exact=True)
    pd.testing.assert_frame_equal(kept[1], mixed, check_exact=True)
    pd.testing.assert_frame_equal(kept[2], table.iloc[:0], check_exact=True)
    assert repr(kept[3]) == "{'none': None, 'nan': nan}"
