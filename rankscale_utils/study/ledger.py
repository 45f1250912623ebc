"""What a run's ledger says of its end, and what else a run leaves."""

from pathlib import Path

from . import paths

PATIENCE_CHECKPOINTS = 2  # checkpoints in a row that are no better on the dev part end a run


def own_end(checkpoints: list[dict]) -> dict:
    """Return the checkpoint that is best on the dev part."""
    return min(checkpoints, key=lambda checkpoint: checkpoint["dev"])


def ended(checkpoints: list[dict]) -> bool:
    """Whether a run has come to its own end: its last checkpoints are no better than one before them."""
    return bool(checkpoints) and own_end(checkpoints) not in checkpoints[-PATIENCE_CHECKPOINTS:]


def traces(run: Path) -> list[Path]:
    """Return whatever a run's folder holds so far of what it was trained to and measured at."""
    files = (paths.ledger_file(run), paths.resume_file(run), paths.measurements_file(run))
    return [file for file in files if file.exists()] + sorted(run.glob("exposure-*"))
