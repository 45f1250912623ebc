"""Before a study goes on: results that are damaged or incomplete are taken away, so that the graph makes them again.

What a stage wrote is hashed (`written`), but for weights, which are hashed when they are opened
(`models.checkpoint.open_checkpoint`), as that takes as long as reading them. Here a checkpoint has to have all its
files, and those younger than its ledger are hashed. Seals are never touched.
"""

from pathlib import Path

from rankscale_utils.errors import Damaged
from rankscale_utils.machine.files import damage_of, read_json
from rankscale_utils.machine.progress import say
from rankscale_utils.study import paths
from rankscale_utils.study.study import Study

from .written import damaged


def remove_damaged(study: Study) -> None:
    """Remove whatever is not what a stage wrote, and the ledgers of runs whose checkpoints are not whole."""
    for file, first in list(damaged(study.folder)):
        say(f"{file} is gone or not what was written: it is made again")
        for part in {file, first}:  # without its first result a stage runs again
            part.unlink(missing_ok=True)
    for run in study.all_runs:
        folder = study.run_folder(run)
        evaluation = (paths.notebook_file(folder, "2_evaluate"), paths.measurements_file(folder))
        if reason := _untrained(folder, measured=all(file.exists() for file in evaluation)):
            ledger = paths.ledger_file(folder)
            say(f"{ledger} is taken away, as {reason}: it is trained again")
            ledger.unlink()


def _time(file: Path) -> int:
    return file.stat().st_mtime_ns


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
