"""Seal forecasts before their truth is readable, and refuse those that were changed afterwards.

A seal shows a change to any cell, row or order; it is no secret, so it guards against accidents and afterthoughts,
not against somebody who recomputes it.
"""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from rankscale_utils.machine.files import digest, whole_file

SEAL = "sealed_sha256"


class SealBroken(ValueError):
    """A sealed file is not what was sealed."""


def make_seal(forecasts: pd.DataFrame, data_sha256: str, sealed_at: str) -> pd.DataFrame:
    """Forecasts as sealed text: every cell written at full precision, and on every row the hash of them all.

    data_sha256: of the measurements used; sealed_at: ISO time in UTC. Raises ValueError where there is nothing to seal
    or the time is not in UTC.
    """
    if forecasts.empty:
        raise ValueError("the forecasts have no rows; hold out at least one rung that the ladder measured")
    _check_utc(sealed_at)
    text = forecasts.assign(data_sha256=data_sha256, sealed_at=sealed_at).map(_as_text)
    return text.assign(**{SEAL: digest(_canonical(text))})


def seal_forecasts(path: Path | str, forecasts: pd.DataFrame, data_sha256: str, sealed_at: str) -> pd.DataFrame:
    """Write sealed forecasts as CSV, whole or not at all, and return what was written; arguments as in `seal`."""
    sealed = make_seal(forecasts, data_sha256, sealed_at)
    with whole_file(Path(path)) as temporary:
        sealed.to_csv(temporary, index=False)
    return read_sealed(path)


def read_sealed(path: Path | str) -> pd.DataFrame:
    """Return sealed forecasts; raise SealBroken where a value, row, column, order or hash is not what was sealed."""
    try:
        text = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise SealBroken(f"{path} is no longer the table that was sealed ({error}); run 3_fit again") from error
    if text.empty or SEAL not in text:
        raise SealBroken(f"{path} has no column {SEAL} or no rows, so it was never sealed; run 3_fit again")
    body = text.drop(columns=SEAL)
    if set(text[SEAL]) != {digest(_canonical(body))}:
        raise SealBroken(
            f"{path} does not match its {SEAL}: a cell, row or column was changed after sealing; run 3_fit again"
        )
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def _check_utc(time: str) -> None:
    try:
        in_utc = datetime.fromisoformat(time).utcoffset() == timedelta(0)
    except (TypeError, ValueError):
        in_utc = False
    if not in_utc:
        raise ValueError(f"sealed_at is {time!r}; give an ISO time in UTC such as 2026-01-31T12:00:00+00:00")


def _as_text(cell: object) -> str:
    if cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and np.isnan(cell)):
        return ""
    return repr(float(cell)) if isinstance(cell, float | np.floating) else str(cell)


def _canonical(text: pd.DataFrame) -> list[list[str]]:
    return [text.columns.tolist(), *text.to_numpy().tolist()]
