"""An optional sweep that chooses a rung's learning rate: factors on the rule's rate, judged on training queries.

Each factor trains the shortest exposure without a fixed part of the training queries, and the loss on that part
decides; the test is never looked at. All runs of an objective on a rung share the choice, whatever their seed.
"""

from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rankscale_utils.collections import Collection
from rankscale_utils.collections.groups import split, training_steps
from rankscale_utils.errors import Damaged, StudyError
from rankscale_utils.machine.files import digest, read_json, write_json
from rankscale_utils.machine.progress import Progress
from rankscale_utils.study import paths
from rankscale_utils.study.study import Run, Study

from .distributed import Processes, held_by_first
from .health import Diverged
from .trainer import Interrupted, Trainer


def swept(
    study: Study,
    run: Run,
    collection: Collection,
    device: torch.device,
    together: Processes,
    stop: Callable[[], bool],
) -> dict[str, Any]:
    """Return the chosen `factor` and every factor's `losses` in nats on the dev part; nothing without a sweep.

    A factor whose run fails has the reason in place of a loss; if all fail, the smallest is chosen. stop: asked before
    every step.

    Raises:
        StudyError: `stop` says so; the losses that are known are kept.
    """
    factors = study.objectives[run.objective].learning_rate.sweep
    if not factors:
        return {}
    first = run.model_copy(update={"seed": study.objectives[run.objective].seeds[0]})
    path = paths.learning_rate_file(study.folder, run.objective, run.rung)
    identity = digest(study.settings_of(first), collection.manifest["sha256"], collection.tokens / "tokenizer.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    with held_by_first(Path(f"{path}.lock"), together):  # whoever sweeps the same rung waits here for the result
        losses = together.first(partial(_known, path, identity))
        for factor in factors:
            if str(factor) not in losses:
                trainer = Trainer(study, first, collection, device, together, factor)
                trainer.stop = stop
                losses[str(factor)] = _dev_loss(trainer)
                together.first(partial(write_json, path, {"identity": identity, "losses": losses}))
    numbers = {factor: loss for factor in factors if isinstance(loss := losses[str(factor)], float)}
    return {"factor": min(numbers, key=numbers.get) if numbers else min(factors), "losses": losses}


def _known(path: Path, identity: str) -> dict[str, float | str]:
    """Return the losses that an earlier process of the same identity left."""
    try:
        known = read_json(path)
    except (FileNotFoundError, Damaged):
        return {}
    return known["losses"] if known["identity"] == identity else {}


def _dev_loss(trainer: Trainer) -> float | str:
    """Train the shortest exposure and return its loss on the dev part, or why it failed."""
    settings = trainer.study.training
    end = settings.exposures[0] // settings.groups.pairs_per_step
    dev, trainer.queries = split(trainer.queries, settings.groups.queries_per_step)
    name = f"{trainer.run.objective}-{trainer.run.rung} rate {trainer.rate:.2g}"
    progress = Progress(name, end * settings.groups.pairs_per_step, "pairs")
    begin = end - round(end * settings.cooldown)
    try:
        trainer.advance(begin, cool=False, progress=progress)
        trainer.advance(end, cool=True, progress=progress)
        count = len(dev.query_rows) // settings.groups.queries_per_step
        return float(
            np.mean([trainer.loss_of(step) for step in islice(training_steps(dev, settings.groups, 0), count)])
        )
    except Diverged as reason:
        return f"failed: {reason}"
    except Interrupted:
        raise StudyError(
            f"run {trainer.run.name} was told to stop while its learning rate was chosen: the same command goes on "
            "with the rates that are not tried yet."
        ) from None
