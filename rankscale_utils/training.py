"""One training loop: a trunk at a constant learning rate, and at every exposure a branch that cools down.

A checkpoint taken in the middle of a decaying schedule is no shorter run. Here each exposure's checkpoint is the end
of a run of exactly that many pairs: the trunk's state is branched off shortly before, and the branch's rate falls to
zero (Hägele et al., arXiv 2405.18392). The branch sees the pairs that the trunk sees after it.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rankscale_utils.collections import Collection
from rankscale_utils.collections.groups import TrainingQueries, steps
from rankscale_utils.device import hardware
from rankscale_utils.files import digest, read_json, whole_file, write_json
from rankscale_utils.models import ladder
from rankscale_utils.models.counts import flops, parameters
from rankscale_utils.objectives import LOSSES
from rankscale_utils.progress import Progress
from rankscale_utils.study import Run, Study, run_seed

CURVE_STEPS = 20  # the loss curve keeps the mean of so many steps


class Diverged(ArithmeticError):
    """The loss stopped being a number."""


@dataclass
class Seen:
    """What a model has been trained on so far."""

    step: int = 0
    tokens: int = 0
    squares: int = 0  # sum of squared pair lengths, which attention's FLOPs need
    losses: list[float] = field(default_factory=list)


@dataclass
class Trainer:
    """A model in training. `seen` counts its own path only, so a branch counts like a run of its own."""

    study: Study
    run: Run
    collection: Collection
    device: torch.device

    def __post_init__(self) -> None:
        """Build the model and its optimiser."""
        vocabulary = self.collection.tokenizer().get_vocab_size()
        self.model = ladder.build(self.study, self.run, vocabulary).to(self.device).train()
        self.rate = self.study.objectives[self.run.objective].learning_rate.of(self.study.ladder[self.run.rung])
        matrices = [parameter for parameter in self.model.parameters() if parameter.dim() > 1]
        others = [parameter for parameter in self.model.parameters() if parameter.dim() <= 1]
        groups = [{"params": matrices, "weight_decay": self.study.training.weight_decay}]
        groups += [{"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=self.rate, betas=(0.9, 0.98), fused=True)
        self.loss = LOSSES[self.run.objective]
        self.pairs = self.collection.pairs()
        self.queries: TrainingQueries = self.collection.training_queries()
        self.seen = Seen()

    def state(self) -> dict[str, Any]:
        """Return a copy of all that decides how training goes on."""
        parts = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "seen": self.seen}
        return deepcopy(parts)

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(deepcopy(state["optimizer"]))
        self.seen = deepcopy(state["seen"])

    def advance(self, until: int, cool: bool, progress: Progress) -> None:
        """Take the steps up to `until`; with `cool` the rate falls linearly to zero on the way.

        Raises:
            Diverged: the loss is not finite.
        """
        settings, begin = self.study.training, self.seen.step
        groups = steps(self.queries, settings.groups, run_seed(self.run, "data"), begin)
        for queries, documents in islice(groups, until - begin):
            share = (until - self.seen.step) / (until - begin) if cool else 1.0
            warm = min(1.0, (self.seen.step + 1) / (settings.warmup_steps + 1))
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * share * warm
            loss = self._step(queries, documents)
            progress.advance(documents.size, f"loss {loss:.3f}")

    def _step(self, queries: np.ndarray, documents: np.ndarray) -> float:
        rows = queries.ravel(), documents.ravel()
        batch = self.pairs.batch(*rows)
        scores = self.model(*(part.to(self.device) for part in batch)).view(documents.shape)
        relevance = torch.zeros_like(scores)
        relevance[:, 0] = 1
        loss = self.loss(scores, relevance)
        value = loss.item()
        if not np.isfinite(value):
            raise Diverged(f"the loss became {value} at step {self.seen.step + 1}")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        lengths = self.pairs.lengths(*rows)
        self.seen.step += 1
        self.seen.tokens += int(lengths.sum())
        self.seen.squares += int((lengths**2).sum())
        self.seen.losses.append(value)
        return value

    def checkpoint(self, branch: "Branch") -> dict[str, float]:
        """Return a checkpoint's row of the ledger: what a run that ends here has seen and cost."""
        cost = flops(self.model)
        forward = cost.per_token * self.seen.tokens + cost.per_token_pair * self.seen.squares
        return {
            "exposure": branch.exposure,
            "queries": branch.exposure // self.study.training.groups.size,
            "tokens": self.seen.tokens,
            "flops": 3 * (forward + cost.per_pair * branch.exposure),
            "loss": float(np.mean(self.seen.losses[-max(1, branch.end - branch.begin) :])),
        }


@dataclass(frozen=True)
class Branch:
    """An exposure in pairs, and the steps at which its cool-down begins and ends."""

    exposure: int
    begin: int
    end: int


def plan(study: Study) -> list[Branch]:
    """Return the branches of every run, one an exposure, each exposure rounded down to whole steps."""
    per_step = study.training.groups.pairs_per_step
    ends = [exposure // per_step for exposure in study.training.exposures]
    return [Branch(end * per_step, end - round(end * study.training.cooldown), end) for end in ends]


def train(study: Study, run: Run, collection: Collection, device: torch.device) -> dict[str, Any]:
    """Train a run, or go on where it was interrupted, and return its ledger.

    The ledger (`ledger.json`, written last) holds the counts, the learning rate, the trunk's loss curve and, for every
    checkpoint, exposure in pairs, queries and tokens and the training FLOPs of a run that ends there. A run whose loss
    stops being a number ends with the status `failed: …` and the checkpoints it had.
    """
    folder = study.run_folder(run)
    identity = digest(study.settings_of(run), collection.manifest["sha256"], collection.tokens / "tokenizer.json")
    ledger_file, resume_file = folder / "ledger.json", folder / "resume.pt"
    if ledger_file.exists() and (ledger := read_json(ledger_file))["identity"] == identity:
        return ledger
    trainer = Trainer(study, run, collection, device)
    checkpoints = _resume(trainer, resume_file, identity)
    branches = plan(study)
    progress = Progress(run.name, _steps(branches) * study.training.groups.pairs_per_step, "pairs")
    progress.skip(_steps(branches[: len(checkpoints)]) * study.training.groups.pairs_per_step)
    status = "complete"
    try:
        for branch in branches[len(checkpoints) :]:
            trainer.advance(branch.begin, cool=False, progress=progress)
            trunk = trainer.state()
            trainer.advance(branch.end, cool=True, progress=progress)
            ladder.save(trainer.model, ladder.checkpoint_file(folder, branch.exposure))
            checkpoints.append(trainer.checkpoint(branch))
            trainer.restore(trunk)
            with whole_file(resume_file) as temporary:
                torch.save({"identity": identity, "trunk": trunk, "checkpoints": checkpoints}, temporary)
    except Diverged as reason:
        status = f"failed: {reason}"
    ledger = _ledger(trainer, identity, status, checkpoints) | {"pairs_per_second": progress.rate()}
    write_json(ledger_file, ledger)
    resume_file.unlink(missing_ok=True)
    return ledger


def _steps(branches: list[Branch]) -> int:
    """Return the steps that these branches cost: the trunk up to the last one, and every cool-down."""
    return sum(branch.end - branch.begin for branch in branches) + (branches[-1].begin if branches else 0)


def _resume(trainer: Trainer, path: Path, identity: str) -> list[dict[str, float]]:
    """Restore the trunk that an interrupted run of the same identity left; return its checkpoints so far."""
    if not path.exists():
        return []
    kept = torch.load(path, weights_only=False, map_location=trainer.device)
    if kept["identity"] != identity:
        return []
    trainer.restore(kept["trunk"])
    return kept["checkpoints"]


def _ledger(trainer: Trainer, identity: str, status: str, checkpoints: list[dict[str, float]]) -> dict[str, Any]:
    run, counts = trainer.run, parameters(trainer.model)
    losses = np.array(trainer.seen.losses)
    means = losses[: len(losses) // CURVE_STEPS * CURVE_STEPS].reshape(-1, CURVE_STEPS).mean(1)
    per_step = trainer.study.training.groups.pairs_per_step
    return {
        "run": run.name,
        "identity": identity,
        "status": status,
        "family": "cross_encoder",
        "objective": run.objective,
        "rung": run.rung,
        "seed": run.seed,
        "params": counts.total,
        "params_non_embedding": counts.non_embedding,
        "learning_rate": trainer.rate,
        "flops_per_pair": checkpoints[-1]["flops"] / checkpoints[-1]["exposure"] if checkpoints else None,
        "checkpoints": checkpoints,
        "curve": {"pairs": [(i + 1) * CURVE_STEPS * per_step for i in range(len(means))], "loss": means.tolist()},
        "hardware": hardware(),
    }
