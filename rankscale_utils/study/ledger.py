"""What a run's ledger says of its end."""

PATIENCE_CHECKPOINTS = 2  # checkpoints in a row that are no better on the dev part end a run


def own_end(checkpoints: list[dict]) -> dict:
    """Return the checkpoint that is best on the dev part."""
    return min(checkpoints, key=lambda checkpoint: checkpoint["dev"])


def ended(checkpoints: list[dict]) -> bool:
    """Whether a run has come to its own end: its last checkpoints are no better than one before them."""
    return bool(checkpoints) and own_end(checkpoints) not in checkpoints[-PATIENCE_CHECKPOINTS:]
