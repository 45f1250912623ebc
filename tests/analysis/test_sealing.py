from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.analysis.sealing import (
    NO_OTHERS,
    UNSEALED,
    Basis,
    SealBroken,
    open_seal,
    read_sealed,
    seal_once,
    write_seal,
)
from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import RESULTS

NOW = "2026-01-31T12:00:00+00:00"
BASIS = Basis("a" * 64, "b" * 64, "c" * 64)
FORECASTS = pd.DataFrame(
    {"rung": ["400m", "1b", "None"], "forecast": [1 / 3, 0.1 + 0.2, np.nan], "lo": [0.1, 0.2, 0.3],
     "hi": [np.inf, 1.0, 2.0], "n": [1, 2, 3]}
)  # fmt: skip


@pytest.fixture
def sealed(tmp_path):
    path = tmp_path / "forecasts.csv"
    write_seal(path, FORECASTS.assign(data_sha256="a" * 64), NOW)
    return path


@pytest.fixture
def first(tmp_path):
    return tmp_path / "seals" / "forecasts.csv"


def seal(first, basis=BASIS, truth_existed=False, **changed):
    return seal_once(first, basis, lambda: FORECASTS.assign(**changed), truth_existed)


def state(folder):
    """Return what a folder's files hold, and when they were written."""
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.glob("*.csv")}


def test_sealed_forecasts_open_as_they_were(sealed):
    opened = read_sealed(sealed)
    pd.testing.assert_frame_equal(opened[FORECASTS.columns], FORECASTS, check_exact=True, check_dtype=False)
    assert set(opened["data_sha256"]) == {"a" * 64}
    assert set(opened["sealed_at"]) == {NOW}
    assert opened["sealed_sha256"].nunique() == 1
    assert list(sealed.parent.iterdir()) == [sealed]
    assert sealed.stat().st_mode & 0o777 == 0o444


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
    text = sealed.read_text()
    assert tamper(text) != text
    sealed.unlink()
    sealed.write_text(tamper(text))
    with pytest.raises(SealBroken, match=r"forecasts\.csv .*run 3_fit again"):
        read_sealed(sealed)


def test_nothing_is_sealed_without_rows_or_a_time_in_utc(tmp_path):
    with pytest.raises(StudyError, match="no rows"):
        write_seal(tmp_path / "x.csv", FORECASTS.iloc[:0], NOW)
    for time in ("yesterday", "2026-01-31T12:00:00", "2026-01-31T12:00:00+02:00"):
        with pytest.raises(ValueError, match="sealed_at is"):
            write_seal(tmp_path / "x.csv", FORECASTS, time)
    assert not (tmp_path / "x.csv").exists()


def test_nothing_replaces_a_seal(sealed):
    before = sealed.read_bytes()
    with pytest.raises(FileExistsError, match="is a seal, which nothing replaces"):
        write_seal(sealed, FORECASTS, NOW)
    assert sealed.read_bytes() == before


def test_what_is_sealed_already_is_loaded_and_not_made_again(first):
    once, before = seal(first), state(first.parent)
    assert not once["truth_existed"].any()
    again = seal_once(first, BASIS, lambda: pytest.fail("made twice"), truth_existed=True)
    pd.testing.assert_frame_equal(once, again, check_exact=True)
    assert state(first.parent) == before
    assert set(again["other_seals"]) == {NO_OTHERS}


def test_forecasts_on_another_basis_are_sealed_beside_the_first_which_is_shown_and_names_them(first):
    once = seal(first)
    before = state(first.parent)
    for change in ({"settings_sha256": "d" * 64}, {"data_sha256": "e" * 64, "settings_sha256": "d" * 64}):
        shown = seal(first, replace(BASIS, **change), truth_existed=True, forecast=0.5)
        pd.testing.assert_frame_equal(shown.drop(columns="other_seals"), once.drop(columns="other_seals"))
    assert set(state(first.parent)) == {"forecasts.csv", "forecasts-2.csv", "forecasts-3.csv"}
    assert state(first.parent)["forecasts.csv"] == before["forecasts.csv"]
    said = shown["other_seals"].iloc[0]
    assert said.startswith("Shown is forecasts.csv; beside it stand forecasts-2.csv (20")
    assert "after the truth was there, from other settings)" in said
    assert "forecasts-3.csv" in said
    assert said.endswith("from other measurements and settings).")
    assert (open_seal(first, BASIS)["forecast"] == once["forecast"])[:2].all()
    (first.with_name("forecasts-old.csv")).write_text("a copy of the user's own")
    open_seal(first, BASIS)


def test_of_other_held_out_runs_the_seal_on_what_there_is_now_is_shown(first):
    seal(first)
    other = replace(BASIS, held_out_sha256="f" * 64)
    shown = seal(first, other, truth_existed=True, forecast=0.5)
    assert (shown["forecast"] == 0.5).all()
    assert shown["truth_existed"].all()
    assert "forecasts.csv (20" in shown["other_seals"].iloc[0]
    assert "before the truth was there, from other held-out runs" in shown["other_seals"].iloc[0]


def test_a_basis_that_was_never_sealed_is_refused(first):
    with pytest.raises(SealBroken, match=r"forecasts\.csv was never sealed: run 3_fit again"):
        open_seal(first, BASIS)
    seal(first)
    with pytest.raises(SealBroken, match="was sealed on other measurements than there are now"):
        open_seal(first, replace(BASIS, data_sha256="0" * 64))


def test_a_notebook_run_by_hand_seals_nothing_and_shows_what_is_sealed(first, monkeypatch):
    monkeypatch.setenv(RESULTS, "read")
    made = seal(first)
    assert set(made["sealed_at"]) == {UNSEALED}
    assert not first.parent.exists()
    monkeypatch.setenv(RESULTS, "write")
    once = seal(first)
    monkeypatch.setenv(RESULTS, "read")
    pd.testing.assert_frame_equal(seal(first, truth_existed=True), once)
    assert set(seal(first, replace(BASIS, settings_sha256="0" * 64))["sealed_at"]) == {UNSEALED}
    assert set(state(first.parent)) == {"forecasts.csv"}
