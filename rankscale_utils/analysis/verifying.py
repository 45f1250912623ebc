"""Do the sealed forecasts of a study's zip follow from its measurements? Everything is computed again, and compared."""

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rankscale_utils.errors import StudyError
from rankscale_utils.machine import time_stamps
from rankscale_utils.machine.files import read_json
from rankscale_utils.machine.zips import unpack
from rankscale_utils.measurements.table import SERIES_COLUMNS
from rankscale_utils.study import paths
from rankscale_utils.study.archive import MEASUREMENTS, STUDY, TRAINED
from rankscale_utils.study.loading import load_study
from rankscale_utils.study.study import Study

from .crate import unlike_crate
from .design import measured_design, trained_design
from .fit import fit_series, rows_of_rungs
from .forecast import basis_of, scored_parts
from .held_out import beside_the_truth, beside_their_past, forecast_held_out, past_of_averages
from .ladder import open_ladder
from .results import read_table
from .sealing import Basis, Seal, read_seals, shown_seal
from .time_stamps import OWN_CLOCK

CLOSE = 1e-6  # relative: last digits depend on processor and libraries
DRAWN = 3.0  # widths of an interval, over the root of the draws, that another sample of the same laws may lie apart
KEYS = [*SERIES_COLUMNS, "rung", "kind", "law", "exposure"]
OF_DRAWS = ["forecast", "lo", "hi"]
NOT_REFITTED = ("query_lo", "query_hi")  # follow from every query's values, which a zip does not hold


class Finding(NamedTuple):
    """A sentence on what was checked, and whether it holds."""

    sentence: str
    holds: bool = True


class Refit(NamedTuple):
    """What follows from a zip's measurements and study: the basis of forecasts, forecasts, and what was measured."""

    basis: Basis
    forecasts: pd.DataFrame
    truth: pd.DataFrame


def verify_zip(archive: Path, certificates: Path | None = None) -> Iterator[Finding]:
    """Yield what is found of a zip that `evidence.pack_study` made, unpacked into a folder that is removed afterwards.

    certificates: of time-stamp authorities that the reader trusts; else the system's, or those that the zip brings.

    Raises:
        StudyError: it is no such zip, or cannot be read; see `machine.zips.unpack` and `sealing.SealBroken`.
    """
    with tempfile.TemporaryDirectory(prefix="rankscale-") as temporary:
        folder = Path(temporary)
        unpack(archive, folder)
        for name in (STUDY, MEASUREMENTS):
            if not (folder / name).is_file():
                raise StudyError(f"{archive.name} holds no {name}: give a zip that `rankscale zip` made.")
        yield from _files(folder)
        yield from _study(folder, certificates)


def _files(folder: Path) -> Iterator[Finding]:
    if unlike := unlike_crate(folder):
        yield from (Finding(f"{sentence}.", holds=False) for sentence in unlike)
    else:
        count = sum(file.is_file() for file in folder.rglob("*")) - 1
        yield Finding(f"All {count} files have the SHA-256 that the metadata tells.")


def _study(folder: Path, certificates: Path | None) -> Iterator[Finding]:
    study = load_study(folder / (TRAINED if (folder / TRAINED).is_file() else STUDY))
    annotated = read_seals(paths.sealed_annotations_file(folder))
    seals = read_seals(paths.sealed_forecasts_file(folder))
    for seal in [*seals, *annotated]:
        yield from _unchanged(folder, seal, certificates)
    if annotated:
        yield Finding("Forecasts of annotated pairs are not computed again, as their measurements are not in the zip.")
    if not seals:
        return
    refit = refit_zip(study, folder)
    shown = shown_seal(seals, refit.basis) or seals[0]
    if differs := refit.basis.unlike(shown.basis):
        yield Finding(f"{shown.file.name} was sealed on other {differs} than the zip holds.", holds=False)
    else:
        yield Finding(f"The measurements, the settings and what was held out are those that {shown.file.name} tells.")
    for seal in [seal for seal in seals if seal is not shown]:
        differs = refit.basis.unlike(seal.basis)
        yield Finding(f"{seal.file.name}, which is not shown, was sealed on other {differs}: it is not computed again.")
    sealed = shown.forecasts.drop(columns=[name for name in NOT_REFITTED if name in shown.forecasts])
    yield from _forecasts(sealed, refit.forecasts, DRAWN / study.forecasting.draws**0.5)
    yield from _scores(folder, shown.forecasts, refit.truth)


def refit_zip(study: Study, folder: Path) -> Refit:
    """Fit the laws to the measurements of an unpacked zip and forecast what was held out, as was done at the seal.

    Raises:
        StudyError: the measurements cannot be used.
    """
    settings, rungs = study.forecasting, study.held_out.rungs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of series that are left out, as no forecast of them was sealed either
        ladder = open_ladder(folder / MEASUREMENTS, rungs, settings.model_dump(), planned=bool(study.runs))
    fitted = fit_series(ladder.fitted, settings)
    if study.runs:
        design = trained_design(study, read_json(paths.ladder_file(folder)), fitted)
    else:
        design = measured_design(ladder.every, rungs, settings)
    made = forecast_held_out(fitted, design, settings)
    forecasts = beside_their_past(made, past_of_averages(fitted))
    return Refit(basis_of(study, fitted), forecasts, rows_of_rungs(ladder.every, rungs, settings))


def _unchanged(folder: Path, seal: Seal, certificates: Path | None) -> Iterator[Finding]:
    """Yield that a seal, which was read, is as it was sealed, and whose clock its time is."""
    known = "before its truth was there" if seal.honest else "after its truth was there"
    said = f"{seal.file.name}: {len(seal.forecasts):,} rows as they were sealed {seal.time}, {known}"
    if not paths.stamp_file(seal.file).is_file():
        yield Finding(f"{said}, {OWN_CLOCK}.")
        return
    stamp = read_json(paths.stamp_file(seal.file))
    token = paths.token_file(seal.file)
    if not token.is_file():
        told = stamp.get("time") is None
        reason = stamp["reason"] if told else f"its token of {stamp['time']} is missing"
        yield Finding(f"{said}, {OWN_CLOCK}: {reason}.", holds=told)
        return
    try:
        time = time_stamps.stamped_at(token.read_bytes(), seal.sha256)
        whose = _trusted(folder, token.read_bytes(), seal.sha256, certificates)
    except time_stamps.NoToken as error:
        yield Finding(f"{said}; the token of {stamp['authority']} does not hold: {error}.", holds=False)
        return
    yield Finding(f"{said}; {stamp['authority']} attests {time.isoformat(timespec='seconds')}, {whose}.")


def _trusted(folder: Path, token: bytes, sha256: str, certificates: Path | None) -> str:
    """Say whose certificates a token holds against: the reader's, the system's, or those that the zip brings."""
    brought = paths.authority_file(folder)
    if certificates is not None or not brought.is_file():
        time_stamps.check(token, sha256, certificates)
        return f"by {certificates or 'the certificates that this system trusts'}"
    try:
        time_stamps.check(token, sha256)
        return "by the certificates that this system trusts"
    except time_stamps.NoToken:
        time_stamps.check(token, sha256, brought)
        return "by certificates that the zip itself brings: give the authority's own as --certificates"


def _forecasts(sealed: pd.DataFrame, computed: pd.DataFrame, drawn: float) -> Iterator[Finding]:
    """Yield for every series and rung whether what was sealed of it is what the measurements give.

    drawn: widths of an interval by which another sample of the same laws may differ, as another version draws it.
    """
    if missing := _first_missing(sealed, computed):
        yield Finding(missing, holds=False)
        return
    groups = [*SERIES_COLUMNS, "rung"]
    computed = computed.set_index(KEYS)
    for key, rows in sealed.groupby(groups, sort=False):
        named = dict(zip(groups, key, strict=True))
        test = f"{named['collection']}{', searched' * (named['task'] == 'search')}"
        of = f"{named['objective']}, {named['metric']} on {test}, {named['rung']}"
        rows, again = rows.set_index(KEYS), computed.loc[pd.MultiIndex.from_frame(rows[KEYS])]
        told, ours = _first_difference(rows, again), rows.xs("average", level="law")
        apart = _widths_apart(ours, again.xs("average", level="law"))
        shown = ours.xs("new_run", level="kind").iloc[0]
        follows = f"{of}: {shown['forecast']:.4f} [{shown['lo']:.4f}, {shown['hi']:.4f}] follows"
        if told is None:
            yield Finding(f"{follows}, as do all {len(rows)} rows.")
        elif apart <= drawn:
            yield Finding(
                f"{follows} to {apart:.1%} of its interval's width, as near as another sample of the laws; what single "
                "laws say may lie further apart."
            )
        else:
            yield Finding(f"{of}: {told}", holds=False)


def _widths_apart(told: pd.DataFrame, computed: pd.DataFrame) -> float:
    """Return by how many widths of their interval forecasts or their ends differ at most; infinite where one lacks."""
    apart = (told[OF_DRAWS] - computed[OF_DRAWS]).abs().div(told["hi"] - told["lo"], axis=0)
    return float(apart.fillna(np.inf).to_numpy().max())


def _first_missing(sealed: pd.DataFrame, computed: pd.DataFrame) -> str:
    ours, theirs = (set(table[KEYS].itertuples(index=False, name=None)) for table in (computed, sealed))
    if ours == theirs and len(computed) == len(sealed) == len(ours):
        return ""
    odd = sorted(ours ^ theirs, key=str)
    where = "are sealed and do not follow from" if odd and odd[0] in theirs else "follow from"
    named = f", such as {', '.join(map(str, odd[0]))}, {where} the measurements" if odd else ""
    return f"{len(sealed):,} forecasts are sealed, {len(computed):,} follow from the measurements{named}."


def _first_difference(told: pd.DataFrame, computed: pd.DataFrame) -> str | None:
    """Say which number differs first and by how much; None where all are the same to `CLOSE`."""
    for name in [name for name in told if name in computed]:
        ours, theirs = computed[name].to_numpy(), told[name].to_numpy()
        if not pd.api.types.is_numeric_dtype(told[name]):
            differs = ours.astype(str) != theirs.astype(str)
            differs &= ~(pd.isna(ours) & pd.isna(theirs))
        else:
            ours, theirs = ours.astype(float), theirs.astype(float)
            differs = ~np.isclose(theirs, ours, rtol=CLOSE, atol=CLOSE * 1e-3, equal_nan=True)
        if differs.any():
            place = int(differs.argmax())
            law, kind = (told.index.get_level_values(level)[place] for level in ("law", "kind"))
            apart = f" ({theirs[place] - ours[place]:+.3g})" if isinstance(ours[place], float) else ""
            return f"{name} of {law} ({kind}) is {theirs[place]} and would be {ours[place]}{apart}."
    return None


def _scores(folder: Path, sealed: pd.DataFrame, truth: pd.DataFrame) -> Iterator[Finding]:
    """Yield whether the scored tables are the sealed forecasts beside the measurements of the held-out rungs."""
    files = [file(folder) for file in (paths.forecasts_file, paths.forecasts_by_law_file, paths.baselines_file)]
    for file, part in zip(files, scored_parts(beside_the_truth(sealed, truth)), strict=True):
        told = read_table(file) if file.is_file() else pd.DataFrame(columns=KEYS)
        wrong = _first_missing(told, part) or _first_difference(told.set_index(KEYS), part.set_index(KEYS))
        yield Finding(f"{file.name}: {wrong}" if wrong else f"{file.name} is what was sealed beside what was measured.",
                      holds=not wrong)  # fmt: skip


def verdict(findings: Sequence[Finding]) -> str:
    """Return one sentence on all findings, which names the first that does not hold."""
    broken = [finding.sentence for finding in findings if not finding.holds]
    if not broken:
        return "The sealed forecasts follow from the measurements."
    more = f" {len(broken) - 1} further findings do not hold." if len(broken) > 1 else ""
    return f"This is not what it says: {broken[0]}{more}"
