"""Seal forecasts once, before their truth is readable; refuse those that were changed, and never replace one.

A seal shows a change to any cell, row or order; it is no secret, so it guards against accidents and afterthoughts,
not against somebody who recomputes it. Forecasts from other measurements or settings are sealed beside the first ones.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import digest, read_only, whole_file
from rankscale_utils.study import paths
from rankscale_utils.study.study import Run, Study
from rankscale_utils.study.time_stamp import TimeStamp

from .time_stamps import ask_for_token, clock_of

SEAL = "sealed_sha256"
UNSEALED = "not sealed"  # in place of a time and a hash, where a notebook run by hand forecasts what nobody sealed
NO_OTHERS = "none"  # other seals of the same kind
INTERVALS = (("lo", "hi"), ("query_lo", "query_hi"))
OF_THE_TRUTH = {
    "metrics",
    "size",
    "exposure",
    "value",
    "checkpoints",
    "burn_in",
}  # of forecasting: what decides it


SHOWN_ALONE = {"headline_test"}  # of forecasting: what no forecast follows from


class SealBroken(StudyError):
    """A sealed file is not what was sealed, or nothing was sealed on what there is now."""


@dataclass(frozen=True)
class Basis:
    """What forecasts follow from, as SHA-256: the measurements fitted, the settings, and what was held out.

    held_out_sha256 is of all that decides the truth but the truth itself.
    """

    data_sha256: str
    settings_sha256: str
    held_out_sha256: str

    @classmethod
    def of(cls, study: Study, data_sha256: str, held_out: Iterable[Run]) -> "Basis":
        """Return what forecasts of these runs, or of the held-out rungs of a CSV, follow from."""
        untold = SHOWN_ALONE if study.forecasting.mean_of_tests else {*SHOWN_ALONE, "mean_of_tests"}
        settings = [study.forecasting.model_dump(exclude=untold), study.held_out.model_dump()]
        truth = [study.forecasting.model_dump(include=OF_THE_TRUTH), study.held_out.model_dump()]
        truth += [study.settings_of(run) for run in held_out]
        return cls(data_sha256, digest(settings), digest(truth, *study.measuring))

    def unlike(self, other: "Basis") -> str:
        """Say what another basis has that this one has not."""
        kinds = ("measurements", "settings", "held-out runs")
        pairs = zip(asdict(self).values(), asdict(other).values(), kinds, strict=True)
        return " and ".join(kind for own, theirs, kind in pairs if own != theirs)


@dataclass(frozen=True)
class Seal:
    """A sealed file and its forecasts."""

    file: Path
    forecasts: pd.DataFrame

    @property
    def basis(self) -> Basis:
        """What the forecasts follow from."""
        return Basis(*self.forecasts[list(Basis.__dataclass_fields__)].iloc[0])

    @property
    def honest(self) -> bool:
        """Whether the truth was not there to be read yet."""
        return not self.forecasts["truth_existed"].iloc[0]

    @property
    def sha256(self) -> str:
        """The hash of its forecasts."""
        return self.forecasts[SEAL].iloc[0]

    @property
    def time(self) -> str:
        """When it was sealed, in UTC."""
        return self.forecasts["sealed_at"].iloc[0]


def seal_once(
    first: Path,
    basis: Basis,
    make: Callable[[], pd.DataFrame],
    truth_existed: bool,
    attested_by: TimeStamp | None = None,
) -> pd.DataFrame:
    """Seal what `make` forecasts, unless forecasts on that basis are sealed already; return those to show.

    The first seal lies at `first`, later ones beside it with their number. Of those about the same held-out runs the
    first that was made before the truth is shown, or else the one on this basis; see `open_seal`. A notebook run by
    hand seals nothing: its forecasts come back with UNSEALED for a time. Where an authority is named, it is asked for a
    token over a new seal's hash; see `time_stamps`.

    Raises:
        SealBroken: a sealed file is not what was sealed.
        StudyError: there is nothing to forecast.
    """
    if read_only():
        seals = read_seals(first)
        if basis not in [seal.basis for seal in seals]:
            unsealed = {"sealed_at": UNSEALED, SEAL: UNSEALED, "other_seals": NO_OTHERS, "clock": UNSEALED}
            return make().assign(**asdict(basis), truth_existed=truth_existed, **unsealed)
        return _shown(seals, basis)
    first.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(paths.lock_file(first.parent)):
        seals = read_seals(first)
        if basis not in [seal.basis for seal in seals]:
            forecasts = make().assign(**asdict(basis), truth_existed=truth_existed)
            path = first.with_stem(f"{first.stem}-{_number(seals[-1].file) + 1}") if seals else first
            write_seal(path, forecasts, datetime.now(UTC).isoformat(timespec="seconds"))
            seals = read_seals(first)
            ask_for_token(path, seals[-1].sha256, attested_by)
    return _shown(seals, basis)


def open_seal(first: Path, basis: Basis) -> pd.DataFrame:
    """Return the sealed forecasts to show on this basis; `other_seals` says in words which others there are, and
    why, `clock` whose clock the time is.

    Raises:
        SealBroken: a sealed file is not what was sealed, or nothing was sealed on this basis.
    """
    seals = read_seals(first)
    if basis not in [seal.basis for seal in seals]:
        on = f"sealed on other {basis.unlike(seals[-1].basis)} than there are now" if seals else "never sealed"
        raise SealBroken(f"{first.name} was {on}: run 3_fit again, which seals what there is now and keeps every seal.")
    return _shown(seals, basis)


def shown_seal(seals: list[Seal], basis: Basis) -> Seal | None:
    """Return the seal to show: the first honest one about the same held-out runs, or else the one on this basis."""
    same = [seal for seal in seals if seal.honest and seal.basis.held_out_sha256 == basis.held_out_sha256]
    return next((seal for seal in (*same, *seals) if seal in same or seal.basis == basis), None)


def _shown(seals: list[Seal], basis: Basis) -> pd.DataFrame:
    shown = shown_seal(seals, basis)
    others = [seal for seal in seals if seal is not shown]
    said = [
        f"{seal.file.name} ({seal.time}, {'before' if seal.honest else 'after'} the truth was there, from other "
        f"{shown.basis.unlike(seal.basis)})"
        for seal in others
    ]
    words = f"Shown is {shown.file.name}; beside it stand {', '.join(said)}." if said else NO_OTHERS
    return shown.forecasts.assign(other_seals=words, clock=clock_of(shown.file))


def read_seals(first: Path) -> list[Seal]:
    """Return the seals of one kind, in the order in which they were made.

    Raises:
        SealBroken: one is not what was sealed.
    """
    files = [file for file in first.parent.glob(f"{first.stem}*{first.suffix}") if _number(file)]
    return [Seal(file, read_sealed(file)) for file in sorted(files, key=_number)]


def _number(file: Path) -> int:
    """Return a seal's place among those of its kind: 1 without a number."""
    _, _, number = file.stem.partition("-")
    return int(number) if number.isdigit() else int(not number)


def write_seal(path: Path, forecasts: pd.DataFrame, sealed_at: str) -> None:
    """Write sealed forecasts as CSV, whole or not at all, for reading alone; sealed_at: ISO time in UTC.

    Raises:
        StudyError: there is nothing to seal.
        ValueError: the time is not in UTC.
        FileExistsError: there is a seal already.
    """
    if path.exists():
        raise FileExistsError(f"{path} is a seal, which nothing replaces")
    sealed = make_seal(forecasts, sealed_at)
    with whole_file(path) as temporary:
        sealed.to_csv(temporary, index=False)
    path.chmod(0o444)


def make_seal(forecasts: pd.DataFrame, sealed_at: str) -> pd.DataFrame:
    """Forecasts as sealed text: every cell written at full precision, and on every row the hash of them all."""
    if forecasts.empty:
        raise StudyError("the forecasts have no rows: hold out at least one rung that the ladder measured.")
    _check_utc(sealed_at)
    text = forecasts.assign(sealed_at=sealed_at).map(_as_text)
    return text.assign(**{SEAL: digest(_canonical(text))})


def read_sealed(path: Path | str) -> pd.DataFrame:
    """Return sealed forecasts; raise SealBroken where a value, row, column, order or hash is not what was sealed."""
    remedy = "put back the file that was sealed, or move this one away and run 3_fit again, which seals anew"
    try:
        text = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except ValueError as error:  # pandas' own are of this kind
        raise SealBroken(f"{path} is no longer the table that was sealed ({error}); {remedy}") from error
    if text.empty or SEAL not in text:
        raise SealBroken(f"{path} has no column {SEAL} or no rows, so it was never sealed; {remedy}")
    body = text.drop(columns=SEAL)
    if set(text[SEAL]) != {digest(_canonical(body))}:
        raise SealBroken(f"{path} does not match its {SEAL}: a cell, row or column was changed after sealing; {remedy}")
    table = pd.read_csv(path, keep_default_na=False, na_values=[""], encoding="utf-8")
    for low, high in INTERVALS:
        if low in table:
            table[high] = table[high].fillna(np.inf).where(table[low].notna())  # no upper end
    return table


def _check_utc(time: str) -> None:
    try:
        in_utc = datetime.fromisoformat(time).utcoffset() == timedelta(0)
    except (TypeError, ValueError):
        in_utc = False
    if not in_utc:
        raise ValueError(f"sealed_at is {time!r}; give an ISO time in UTC such as 2026-01-31T12:00:00+00:00")


def _as_text(cell: object) -> str:
    if cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and not np.isfinite(cell)):
        return ""
    return repr(float(cell)) if isinstance(cell, float | np.floating) else str(cell)


def _canonical(text: pd.DataFrame) -> list[list[str]]:
    return [text.columns.tolist(), *text.to_numpy().tolist()]
