"""What an interrupted run left on disk: its ledger, its checkpoints and the trunk it goes on from."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rankscale_utils.errors import Damaged, StudyError
from rankscale_utils.machine.files import damage_of, read_json, remove_halves, whole_file
from rankscale_utils.machine.lease import Held
from rankscale_utils.machine.progress import say
from rankscale_utils.study import paths
from rankscale_utils.study.study import Run

from .distributed import Processes, held_by_first
from .health import Health
from .trainer import Seen, Trainer

SECONDS_TO_WAIT = 10.0  # seconds in which a killed notebook's kernel notices that it is alone, and ends


@contextmanager
def hold_folder(folder: Path, run: Run, together: Processes) -> Iterator[None]:
    """Hold the run's folder while the block trains, and remove what a killed process left half written.

    A job of Slurm waits as long as it may: what holds the folder is then the job's own first copy, on a node that Slurm
    has lost and that still computes.

    Raises:
        StudyError: another process trains this run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, timeout = paths.lock_file(folder), None if "SLURM_JOB_ID" in os.environ else SECONDS_TO_WAIT
    try:
        with held_by_first(lock, together, timeout):
            together.first(partial(remove_halves, folder))
            yield
    except Held:
        raise StudyError(f"run {run.name} is trained by another process: wait for it, or stop it first.") from None


def finished_ledger(folder: Path, identity: str) -> dict[str, Any] | None:
    """Return the ledger of a finished run of that identity whose checkpoints are whole, if there is one."""
    try:
        ledger = read_json(paths.ledger_file(folder))
    except FileNotFoundError:
        return None
    except Damaged:
        say(f"{folder.name}: ledger.json is damaged, so the run is trained again")
        return None
    return ledger if ledger["identity"] == identity and _whole(folder, ledger["checkpoints"]) else None


def keep_state(
    trainer: Trainer, folder: Path, identity: str, trunk: dict, checkpoints: list[dict], cooling: dict | None = None
) -> None:
    """Write what a later process needs to go on from here, as tensors and plain values: reading it runs no code.

    cooling: the state in the midst of a cool-down that began at the trunk's.
    """
    states = {
        name: state | {"seen": asdict(state["seen"])} if state else None
        for name, state in {"trunk": trunk, "cooling": cooling}.items()
    }
    kept = states | {"identity": identity, "checkpoints": checkpoints, "micro_batches": trainer.micro_batches}
    with whole_file(paths.resume_file(folder)) as temporary:
        torch.save(kept, temporary)


def resume_state(trainer: Trainer, folder: Path, identity: str) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Restore the state that an interrupted run of the same identity left.

    Returns its checkpoints so far, and, of a run that was stopped in a cool-down, the trunk that this began at.
    """
    kept = _kept(folder, identity)
    if kept is None:
        return [], None
    trunk, cooling = _state(kept["trunk"]), kept.get("cooling")
    trainer.restore(_state(cooling) if cooling else trunk)
    trainer.micro_batches = kept["micro_batches"]
    return kept["checkpoints"], trunk if cooling else None


def _state(kept: dict[str, Any]) -> dict[str, Any]:
    """Return a trainer's state from what was written of it."""
    seen = kept["seen"]
    return kept | {"seen": Seen(**seen | {"health": Health(**seen["health"])})}


def _kept(folder: Path, identity: str) -> dict[str, Any] | None:
    """Return what `keep_state` wrote for a run of that identity; of another one, or damaged, nothing is believed."""
    path = paths.resume_file(folder)
    if not path.exists():
        return None
    try:
        kept = torch.load(path, weights_only=True, map_location="cpu")
        usable = kept["identity"] == identity
    except Exception:  # of many kinds: RuntimeError, UnpicklingError, EOFError, AttributeError, …
        say(f"{folder.name}: resume.pt is damaged, so the run starts again")
        return None
    return kept if usable and _whole(folder, kept["checkpoints"]) else None


def _whole(folder: Path, checkpoints: list[dict[str, Any]]) -> bool:
    """Say whether every file of every checkpoint is what training wrote."""
    for checkpoint in checkpoints:
        path = paths.checkpoint_file(folder, checkpoint["exposure"])
        if damage := damage_of(path, checkpoint.get("files", {})):
            say(f"{folder.name}: {path.name} is damaged or gone ({damage}), so the run is trained again")
            return False
    return True
