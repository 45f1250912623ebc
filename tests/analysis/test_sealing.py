import numpy as np
import pandas as pd
import pytest

from rankscale_utils.analysis.sealing import SealBroken, read_sealed, seal_forecasts

NOW = "2026-01-31T12:00:00+00:00"


@pytest.fixture
def sealed(tmp_path):
    forecasts = pd.DataFrame(
        {
            "rung": ["400m", "1b", "None"],
            "forecast": [1 / 3, 0.1 + 0.2, np.nan],
            "hi": [np.inf, 1.0, 2.0],
            "n": [1, 2, 3],
        }
    )
    path = tmp_path / "forecasts.csv"
    seal_forecasts(path, forecasts, "a" * 64, NOW)
    return path, forecasts


def test_sealed_forecasts_open_as_they_were(sealed):
    path, forecasts = sealed
    opened = read_sealed(path)
    pd.testing.assert_frame_equal(opened[forecasts.columns], forecasts, check_exact=True, check_dtype=False)
    assert set(opened["data_sha256"]) == {"a" * 64}
    assert set(opened["sealed_at"]) == {NOW}
    assert opened["sealed_sha256"].nunique() == 1
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "tamper",
    [
        lambda text: text.replace("0.3333333333333333", "0.3333333333333334"),
        lambda text: text.replace(NOW, "2026-01-30T12:00:00+00:00"),
        lambda text: text.replace("a" * 64, "b" * 64),
        lambda text: "\n".join(text.splitlines()[:-1]) + "\n",
        lambda text: "\n".join([text.splitlines()[i] for i in (0, 2, 1, 3)]) + "\n",
        lambda text: text.replace(text.splitlines()[1][-64:], "0" * 64),
        lambda text: text.replace("sealed_sha256", "other"),
        lambda text: text.splitlines()[0] + "\n",
        lambda text: text.replace("400m", "400m,400m"),
        lambda text: "",
    ],
    ids=["value", "time", "data", "row removed", "reordered", "hash", "no seal", "no rows", "extra cell", "empty"],
)
def test_a_changed_seal_is_refused(sealed, tamper):
    path, _ = sealed
    changed = tamper(path.read_text())
    assert changed != path.read_text()
    path.write_text(changed)
    with pytest.raises(SealBroken, match=r"forecasts\.csv .*run 3_fit again"):
        read_sealed(path)


def test_nothing_is_sealed_without_rows_or_a_time_in_utc(tmp_path, sealed):
    _, forecasts = sealed
    with pytest.raises(ValueError, match="no rows"):
        seal_forecasts(tmp_path / "x.csv", forecasts.iloc[:0], "a" * 64, NOW)
    for time in ("yesterday", "2026-01-31T12:00:00", "2026-01-31T12:00:00+02:00"):
        with pytest.raises(ValueError, match="sealed_at is"):
            seal_forecasts(tmp_path / "x.csv", forecasts, "a" * 64, time)
    assert not (tmp_path / "x.csv").exists()
