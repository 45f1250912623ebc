"""A model in training: its steps, its state, and what it has seen."""

from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from rankscale_utils.collections import Collection
from rankscale_utils.collections.groups import Step, TrainingQueries, steps
from rankscale_utils.gradient_cache import carry_back, micro_batches
from rankscale_utils.health import Health
from rankscale_utils.models import ladder
from rankscale_utils.models.counts import flops, parameters
from rankscale_utils.objectives import DISTILLED, loss_of
from rankscale_utils.parts import Training
from rankscale_utils.processes import Processes, out_of_memory
from rankscale_utils.progress import Progress
from rankscale_utils.study import Run, Study, StudyError, run_seed


@dataclass
class Seen:
    """What a model has been trained on so far, and how that went."""

    step: int = 0
    tokens: int = 0
    squares: int = 0  # sum of squared pair lengths, which attention's FLOPs need
    health: Health = field(default_factory=Health)


class Trainer:
    """A model in training. `seen` counts its own path only, so a branch counts like a run of its own."""

    def __init__(
        self,
        study: Study,
        run: Run,
        collection: Collection,
        device: torch.device,
        together: Processes | None = None,
        factor: float = 1.0,
    ) -> None:
        """Build the model and its optimiser; factor multiplies the rung's learning rate."""
        self.study, self.run, self.device = study, run, device
        self.processes = together or Processes()
        settings, objective = study.training, study.objectives[run.objective]
        model = ladder.build(study, run, collection.tokenizer().get_vocab_size()).to(device).train()
        self.counts, self.cost = parameters(model), flops(model)
        self.rate = factor * objective.learning_rate.at(run.rung, model.encoder.config.hidden_size)
        if settings.gradient_checkpointing:
            _checkpoint_gradients(model)
        self.processes.divide(model)
        self.model, self.optimizer = model, _optimizer(model, self.rate, settings)
        self.loss, self.distilled = loss_of(run.objective, objective), run.objective in DISTILLED
        automatic = "bf16" if device.type == "cuda" else "fp32"
        self.precision = automatic if settings.precision == "auto" else settings.precision
        self.pairs, self.tokens = collection.pairs(), collection.tokens
        self.queries: TrainingQueries = collection.training_queries()
        self.most = -(-settings.groups.queries_per_step // self.processes.count) * settings.groups.size
        self.micro_batches = [{"step": 0, "pairs": min(settings.micro_batch or self.most, self.most)}]
        self.seed, self.seen = run_seed(run, "dropout"), Seen()

    def state(self) -> dict[str, Any]:
        """Return a copy of all that decides how training goes on; random numbers follow from seed and step."""
        model, optimizer = self.processes.state(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer, "seen": deepcopy(self.seen)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self.processes.restore(self.model, self.optimizer, (state["model"], state["optimizer"]))
        self.seen = deepcopy(state["seen"])

    def advance(self, until: int, cool: bool, progress: Progress) -> None:
        """Take the steps up to `until`; with `cool` the rate falls linearly to zero on the way.

        Raises:
            Diverged: the run has failed.
            StudyError: not even one pair fits in memory.
        """
        settings, begin = self.study.training, self.seen.step
        groups = steps(self.queries, settings.groups, run_seed(self.run, "data"), begin)
        for step in islice(groups, until - begin):
            share = (until - self.seen.step) / (until - begin) if cool else 1.0
            warm = min(1.0, (self.seen.step + 1) / (settings.warmup_steps + 1))
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * share * warm
            loss = self._step(step)
            progress.advance(step.document_rows.size, f"loss {loss:.3f}")

    def _step(self, step: Step) -> float:
        loss, scores = self._gradient(step)
        self.seen.health.check(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        lengths = self.pairs.lengths(step.query_rows.ravel(), step.document_rows.ravel())
        self.seen.step += 1
        self.seen.tokens += int(lengths.sum())
        self.seen.squares += int((lengths**2).sum())
        scores = scores.view(step.document_rows.shape).cpu().numpy()
        self.seen.health.note(loss, scores, self.study.training.warmup_steps)
        return loss

    def _gradient(self, step: Step) -> tuple[float, torch.Tensor]:
        """Leave the step's gradient in the model, in as many micro-batches as memory needs; return loss and scores."""
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            try:
                return self._carried_back(step)
            except Exception as error:
                if not out_of_memory(error):
                    raise
            self._halve()  # outside the handler, which holds on to the tensors of what failed

    def _carried_back(self, step: Step) -> tuple[float, torch.Tensor]:
        share = self.processes.share(len(step.query_rows))
        rows = step.query_rows[share].ravel(), step.document_rows[share].ravel()
        parts = micro_batches(self.pairs.lengths(*rows), self.micro_batch, self.most)
        target = self._target(step)

        def loss(scores: torch.Tensor) -> torch.Tensor:
            return self.loss(scores.view(target.shape), target)

        result = carry_back(partial(self._score, rows), parts, loss, self.processes)
        self.processes.add_up(self.model)
        return result

    def _score(self, rows: tuple[np.ndarray, np.ndarray], places: np.ndarray, part: int) -> torch.Tensor:
        """Return the scores of the pairs at these places; dropout draws the same for the same step and micro-batch."""
        place = [self.seed, self.seen.step, self.processes.index, part]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> np.uint64(1)))
        batch = self.pairs.batch(*(row[places] for row in rows))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.model(*(tensor.to(self.device) for tensor in batch)).float()

    @torch.no_grad()
    def loss_of(self, step: Step) -> float:
        """Return the loss of a step that is not trained on, without dropout."""
        self.model.eval()
        rows = step.query_rows.ravel(), step.document_rows.ravel()
        places = np.array_split(np.arange(len(rows[0])), -(-len(rows[0]) // self.micro_batch))
        scores = torch.cat([self._score(rows, part, 0) for part in places]).view(step.query_rows.shape)
        self.model.train()
        return self.loss(scores, self._target(step)).item()

    def _target(self, step: Step) -> torch.Tensor:
        """Return what the loss compares the scores with: (queries, group)."""
        return torch.as_tensor(step.teacher if self.distilled else step.relevance, dtype=torch.float32).to(self.device)

    @property
    def micro_batch(self) -> int:
        """The most pairs that are in memory at once."""
        return self.micro_batches[-1]["pairs"]

    def _halve(self) -> None:
        """Take half as many pairs at once from here on.

        Raises:
            StudyError: it is one pair already.
        """
        if self.micro_batch == 1 or self.processes.sharded:
            raise StudyError(
                f"run {self.run.name}: memory ran out with {self.micro_batch} pairs at once: set "
                "training.gradient_checkpointing: true, a smaller training.micro_batch, or more training.gpus with "
                "training.sharded: true."
            )
        self.micro_batches.append({"step": self.seen.step, "pairs": -(-self.micro_batch // 2)})
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def training_flops(self, pairs: int) -> float:
        """Return the FLOPs of training on all that was seen: the backward pass costs twice the forward pass."""
        forward = self.cost.per_token * self.seen.tokens + self.cost.per_token_pair * self.seen.squares
        return 3 * (forward + self.cost.per_pair * pairs)


def _optimizer(model: torch.nn.Module, rate: float, settings: Training) -> torch.optim.Optimizer:
    """Return AdamW; biases and norms never decay."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


def _checkpoint_gradients(model: torch.nn.Module) -> None:
    """Let the layers forget what they computed, and compute it again in the backward pass."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            module.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
