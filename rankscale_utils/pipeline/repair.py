"""Before a study goes on: results that are damaged or incomplete are taken away, so that the graph makes them again.

Seals are never touched. Weights are hashed when they are opened (`models.checkpoint.open_checkpoint`), as that takes as
long as reading them; here a checkpoint has to have all its files, and those younger than its ledger are hashed.
"""

from pathlib import Path

from rankscale_utils.errors import Damaged
from rankscale_utils.machine.files import damage_of, read_json, read_parquet
from rankscale_utils.machine.progress import say
from rankscale_utils.study import paths
from rankscale_utils.study.study import Study

from .written import damaged

TABLES = (paths.measurements_file, paths.speed_per_query_file)
RECORDS = (paths.collection_file, paths.ladder_file, paths.contract_file, paths.fits_file)


def remove_damaged(study: Study) -> None:
    """Remove the ledgers and measurements of runs that are not whole, and whatever is not what a stage wrote."""
    for file, first in list(damaged(study.folder)):
        say(f"{file} is gone or not what was written: it is made again")
        for part in {file, first}:  # without its first result a stage runs again
            part.unlink(missing_ok=True)
    for run in study.all_runs:
        folder = study.run_folder(run)
        measured = _remove_where(_unmeasured(folder), paths.measurements_file(folder), "measured again")
        _remove_where(_untrained(folder, measured), paths.ledger_file(folder), "trained again")
    generated = paths.annotated_file(study.folder, "generated")
    for files, read in (([of(study.folder) for of in TABLES], read_parquet),
                        ([*(of(study.folder) for of in RECORDS), generated], read_json)):  # fmt: skip
        for file in files:
            _remove_where(_unreadable(file, read), file, "made again")


def _remove_where(reason: str, file: Path, remedy: str) -> bool:
    """Remove a file for a reason, saying so; return whether a whole one stands."""
    if reason and file.exists():
        say(f"{file} is taken away, as {reason}: it is {remedy}")
        file.unlink()
    return file.exists()


def _unreadable(file: Path, read) -> str:
    """Say that a file is damaged, where it is."""
    try:
        read(file)
    except FileNotFoundError:
        pass
    except Damaged:
        return f"{file.name} is damaged"
    return ""


def _time(file: Path) -> int:
    return file.stat().st_mtime_ns


def _unmeasured(run: Path) -> str:
    """Say what a run's measurements lack: a table that can be read, values of single queries, or a TREC run."""
    try:
        table = read_parquet(paths.measurements_file(run))
        read_parquet(paths.per_query_file(run), columns=["value"])
    except FileNotFoundError:
        return "one of the run's tables is gone"
    except Damaged:
        return "one of the run's tables is damaged"
    for exposure, test in table[["exposure", "collection"]].drop_duplicates().itertuples(index=False):
        file = paths.run_file(paths.checkpoint_file(run, int(exposure)), test)
        if not file.is_file():
            return f"{file.name} is gone"
    return ""


def _untrained(run: Path, measured: bool) -> str:
    """Say what a trained run lacks. Checkpoints of a measured run may be gone whole: somebody needed the room."""
    try:
        checkpoints = read_json(paths.ledger_file(run))["checkpoints"]
    except FileNotFoundError:
        return ""
    except Damaged:
        return "it is damaged"
    for checkpoint in checkpoints:
        path = paths.checkpoint_file(run, checkpoint["exposure"])
        if not path.exists() and not measured:
            return f"{path.name} is gone"
        hashes = checkpoint.get("files", {}) if path.exists() else {}
        for name in hashes:
            if not (path / name).is_file():
                return f"{path.name}/{name} is gone"
        touched = {
            name: wanted for name, wanted in hashes.items() if _time(path / name) > _time(paths.ledger_file(run))
        }
        if touched and (damage := damage_of(path, touched)):
            return f"{path.name}/{damage}"
    return ""
