"""One training loop: a trunk at a constant learning rate, and at every exposure a branch that cools down.

A checkpoint taken in the middle of a decaying schedule is no shorter run. Here each exposure's checkpoint is the end
of a run of exactly that many pairs: the trunk's state is branched off shortly before, and the branch's rate falls to
zero (Hägele et al., arXiv 2405.18392). The branch sees the pairs that the trunk sees after it.

`python -m rankscale_utils.training STUDY RUN` trains one run; several processes of it train together under torchrun.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rankscale_utils.collections import Collection, open_collection
from rankscale_utils.errors import StudyError, one_sentence
from rankscale_utils.machine.device import compute_device, hardware
from rankscale_utils.machine.files import digest, write_json
from rankscale_utils.machine.progress import Progress, say
from rankscale_utils.machine.warning import warned
from rankscale_utils.models.checkpoint import save_checkpoint
from rankscale_utils.models.checks import start_of
from rankscale_utils.models.flat_encoders import batches_of
from rankscale_utils.models.lora import merged
from rankscale_utils.models.model_card import scored_by
from rankscale_utils.study import paths
from rankscale_utils.study.ledger import ended
from rankscale_utils.study.loading import load_study
from rankscale_utils.study.study import Run, Study

from .annotated_pairs import Dev, annotated
from .distributed import processes
from .health import Diverged
from .resume import finished_ledger, hold_folder, keep_state, resume_state
from .sweep import swept
from .trainer import Interrupted, Trainer

CURVE_STEPS = 20  # the loss curve keeps the mean of so many steps
MISCOUNTED = 0.05  # FLOPs that are off by more of a counted pass are said


@dataclass(frozen=True)
class Branch:
    """An exposure in pairs, and the steps at which its cool-down begins and ends."""

    exposure: int
    begin: int
    end: int


def plan_branches(study: Study, run: Run | None = None) -> list[Branch]:
    """Return the branches of a run, one an exposure, each exposure rounded down to whole steps."""
    per_step = study.training.groups.pairs_per_step
    exposures = study.annotations.exposures if run and run.source else study.training.exposures
    ends = [exposure // per_step for exposure in exposures]
    return [Branch(end * per_step, end - round(end * study.training.cooldown), end) for end in ends]


def planned_steps(branches: list[Branch]) -> int:
    """Return the steps that these branches cost: the trunk up to the last one, and every cool-down."""
    return sum(branch.end - branch.begin for branch in branches) + (branches[-1].begin if branches else 0)


def train(study: Study, run: Run, collection: Collection, device: torch.device) -> dict[str, Any]:
    """Train a run, or go on where it was interrupted, and return its ledger.

    The ledger (`ledger.json`, written last) holds the counts, the learning rate and how it was chosen, the trunk's loss
    curve and, for every checkpoint, exposure in pairs, queries and tokens, the training FLOPs of a run that ends
    there, and its files' SHA-256. A run that fails (`health`) ends with the status `failed: …` and the checkpoints it
    had.

    Raises:
        StudyError: another process trains this run, or memory does not hold one pair.
    """
    folder = study.run_folder(run)
    collection = annotated(study, run, collection)
    identity = digest(study.settings_of(run), collection.manifest["sha256"], collection.tokens / "tokenizer.json")
    if finished := finished_ledger(folder, identity):
        return finished
    if device.type == "cuda" and study.training.gpus > 1 and "WORLD_SIZE" not in os.environ:
        return _with_torchrun(study, run, identity)
    together = processes(device, study.training.sharded)
    with hold_folder(folder, run, together), warned() as came:
        if finished := finished_ledger(folder, identity):  # by whom this waited for
            return finished
        sweep = swept(study, run, collection, device, together, lambda: bool(came()))
        trainer = Trainer(study, run, collection, device, together, sweep.get("factor", 1.0))
        trainer.stop = lambda: bool(came())
        if abs(trainer.counted_share - 1) > MISCOUNTED:
            together.first(partial(say, _miscounted(run, trainer.counted_share)))
        dev = Dev(study, collection) if run.source else None
        ledger = {"identity": identity, "sweep": sweep or None} | _trained(trainer, folder, identity, dev)
        together.first(partial(write_json, paths.ledger_file(folder), ledger))
        paths.resume_file(folder).unlink(missing_ok=True)
    return ledger


def _miscounted(run: Run, share: float) -> str:
    return (
        f"{run.name}: rung {run.rung}'s FLOPs are {share:.2f} times those that torch counts in a forward pass: read "
        "its axes of compute with that in mind."
    )


def _trained(trainer: Trainer, folder: Path, identity: str, dev: Dev | None) -> dict[str, Any]:
    """Train what an earlier process left to do, keeping every checkpoint, and return the ledger's other fields.

    With a dev part the run ends early, once its checkpoints no longer get better there.
    """
    checkpoints, trunk = resume_state(trainer, folder, identity)
    branches, per_step = plan_branches(trainer.study, trainer.run), trainer.study.training.groups.pairs_per_step
    progress = Progress(trainer.run.name, planned_steps(branches) * per_step, "pairs")
    done, so_far = len(checkpoints), trainer.seen.step - (branches[len(checkpoints) - 1].begin if checkpoints else 0)
    progress.skip((planned_steps(branches[:done]) + so_far) * per_step)
    status, together = "complete", trainer.processes
    try:
        for branch in branches[done:]:
            if dev and ended(checkpoints):
                break
            if trunk is None:
                trainer.advance(branch.begin, cool=False, progress=progress)
                trunk = trainer.state()
            trainer.advance(branch.end, cool=True, progress=progress, since=branch.begin)
            weights = merged(trainer.model, together.weights(trainer.model))
            path = paths.checkpoint_file(folder, branch.exposure)
            files = together.first(partial(save_checkpoint, trainer.model, path, trainer.tokens, weights))
            row = _checkpoint(trainer, branch) | ({"dev": dev.entropy(trainer.model)} if dev else {})
            checkpoints.append(row | {"files": files})
            trainer.restore(trunk)
            together.first(partial(keep_state, trainer, folder, identity, trunk, checkpoints))
            trunk = None
    except Diverged as reason:
        status = f"failed: {reason}"
    except Interrupted:
        now = trainer.state()
        trunk, cooling = (trunk, now) if trunk else (now, None)
        together.first(partial(keep_state, trainer, folder, identity, trunk, checkpoints, cooling))
        seen = trainer.seen.step * per_step
        raise StudyError(
            f"run {trainer.run.name} was told to stop after {seen:,} pairs and has kept its state: the same command "
            "goes on from there."
        ) from None
    return _ledger(trainer, status, checkpoints) | {"pairs_per_second": progress.rate()}


def _checkpoint(trainer: Trainer, branch: Branch) -> dict[str, float]:
    """Return a checkpoint's row of the ledger: what a run that ends here has seen and cost."""
    return {
        "exposure": branch.exposure,
        "queries": branch.exposure // trainer.study.training.groups.size,
        "tokens": trainer.seen.tokens,
        "flops": trainer.training_flops,
        "loss": float(np.mean(trainer.seen.health.losses[-max(1, branch.end - branch.begin) :])),
    }


def _ledger(trainer: Trainer, status: str, checkpoints: list[dict[str, float]]) -> dict[str, Any]:
    run, losses = trainer.run, np.array(trainer.seen.health.losses)
    family = trainer.study.family_of(run.objective)
    means = losses[: len(losses) // CURVE_STEPS * CURVE_STEPS].reshape(-1, CURVE_STEPS).mean(1)
    per_step = trainer.study.training.groups.pairs_per_step
    return {
        "run": run.name,
        "status": status,
        "family": family,
        "objective": run.objective,
        "rung": run.rung,
        "seed": run.seed,
        "source": run.source,
        "annotations": run.annotations,
        "start": start_of(trainer.study, family, run.rung),
        "scored_by": scored_by(trainer.model),
        "batches": batches_of(trainer.model.t5.encoder if family == "ed2lm" else trainer.model.encoder),
        "params": trainer.counts.total,
        "params_non_embedding": trainer.counts.non_embedding,
        "learning_rate": trainer.rate,
        "flops_counted": trainer.counted_share,
        "flops_per_pair": checkpoints[-1]["flops"] / checkpoints[-1]["exposure"] if checkpoints else None,
        "checkpoints": checkpoints,
        "padding": 1 - trainer.seen.read / trainer.seen.computed if trainer.seen.computed else None,
        "curve": {"pairs": [(i + 1) * CURVE_STEPS * per_step for i in range(len(means))], "loss": means.tolist()},
        "micro_batches": trainer.micro_batches,
        "hardware": hardware() | {"processes": trainer.processes.count, "precision": trainer.precision},
    }


def _with_torchrun(study: Study, run: Run, identity: str) -> dict[str, Any]:
    """Train a run in one process a GPU, and return its ledger."""
    log = paths.torchrun_log(study.run_folder(run))
    log.parent.mkdir(parents=True, exist_ok=True)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, f"--nproc-per-node={study.training.gpus}", "-m", "rankscale_utils.training"]
    with open(log, "w", encoding="utf-8") as out:
        environment = os.environ | {"RANKSCALE_ROOT": str(paths.ROOT)}
        status = subprocess.call([*command, str(study.source), run.name], stdout=out, stderr=out, env=environment)
    if status:
        said = [
            line
            for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
            if line.startswith("rankscale: ")
        ]
        raise StudyError(said[0].removeprefix("rankscale: ") if said else f"run {run.name} stopped: {log} says why.")
    return finished_ledger(study.run_folder(run), identity)


@one_sentence
def main(study_name: str, run_name: str) -> int:
    """Train one run in this process, as one of torchrun's when it started it; return the exit status."""
    if int(os.environ.get("RANK", "0")):
        os.environ["RANKSCALE_PROGRESS"] = os.devnull  # the first process speaks for all
    try:
        study = load_study(study_name)
        device = compute_device(study.training.threads)
        if device.type == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        train(study, study.run(run_name), open_collection(study), device)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return 0
