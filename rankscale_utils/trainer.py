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
from rankscale_utils.families.learners import learner
from rankscale_utils.gradient_cache import carry_back, micro_batches
from rankscale_utils.health import Health
from rankscale_utils.models import ladder
from rankscale_utils.models.counts import parameters
from rankscale_utils.processes import Processes, out_of_memory
from rankscale_utils.progress import Progress
from rankscale_utils.study import Run, Study, StudyError, run_seed


@dataclass
class Seen:
    """What a model has been trained on so far, and how that went."""

    step: int = 0
    tokens: int = 0
    read: int = 0  # tokens that this process had to read
    computed: int = 0  # and with padding
    forward_flops: float = 0.0
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
        vocabulary = collection.tokenizer().get_vocab_size()
        model = ladder.build(study, run, vocabulary, collection.token_shares).to(device).train()
        self.counts = parameters(model)
        self.rate = factor * objective.learning_rate.at(run.rung, ladder.hidden_size(model))
        if settings.gradient_checkpointing:
            _checkpoint_gradients(model)
        self.processes.divide(model)
        decay = settings.weight_decay * (objective.learning_rate.base or self.rate) / self.rate
        self.model, self.optimizer = model, _optimizer(model, self.rate, decay)
        automatic = "bf16" if device.type == "cuda" else "fp32"
        self.precision = automatic if settings.precision == "auto" else settings.precision
        self.tokens = collection.tokens
        self.queries: TrainingQueries = collection.training_queries()
        self.learner = learner(study, run, collection, model)
        self.most = -(-settings.groups.queries_per_step // self.processes.count) * self.learner.items
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
        self.seen.step += 1
        self.seen.tokens += int(self.learner.lengths(step).sum())
        self.seen.forward_flops += self.learner.flops(step)
        self.seen.health.note(loss, scores.cpu().numpy(), self.study.training.warmup_steps)
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
        own = step.of(self.processes.share(len(step.query_rows)))
        lengths = self.learner.lengths(own)
        parts = micro_batches(lengths, self.micro_batch, self.most)
        loss = partial(self.learner.loss, step=step)
        value, outputs = carry_back(partial(self._outputs, own), parts, loss, self.processes)
        self.processes.add_up(self.model)
        self.seen.read += int(lengths.sum())
        self.seen.computed += sum(self.learner.computed(own, part) for part in parts)
        return value, self.learner.scores(outputs, step)

    def _outputs(self, step: Step, places: np.ndarray, part: int) -> torch.Tensor:
        """Return the outputs of the items at these places; dropout draws alike for the same step and micro-batch."""
        place = [self.seed, self.seen.step, self.processes.index, part]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> np.uint64(1)))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.learner.outputs(step, places).float()

    @torch.no_grad()
    def loss_of(self, step: Step) -> float:
        """Return the loss of a step that is not trained on, without dropout."""
        self.model.eval()
        items = step.query_rows.shape[0] * self.learner.items
        parts = np.array_split(np.arange(items), -(-items // self.micro_batch))
        outputs = torch.cat([self._outputs(step, part, 0) for part in parts])
        self.model.train()
        return self.learner.loss(outputs, step).item()

    @property
    def micro_batch(self) -> int:
        """The most items, pairs or texts, that are in memory at once."""
        return self.micro_batches[-1]["pairs"]

    def _halve(self) -> None:
        """Take half as many pairs at once from here on.

        Raises:
            StudyError: it is one pair already.
        """
        if self.micro_batch == 1 or self.processes.sharded:
            raise StudyError(
                f"run {self.run.name}: memory ran out with {self.micro_batch} items at once: set "
                "training.gradient_checkpointing: true, a smaller training.micro_batch, or more training.gpus with "
                "training.sharded: true."
            )
        self.micro_batches.append({"step": self.seen.step, "pairs": -(-self.micro_batch // 2)})
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def training_flops(self) -> float:
        """The FLOPs of training on all that was seen: the backward pass costs twice the forward pass.

        Source: Kaplan et al., arXiv 2001.08361, §2.1.
        """
        return 3 * self.seen.forward_flops


def _optimizer(model: torch.nn.Module, rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return AdamW; biases and norms never decay."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


def _checkpoint_gradients(model: torch.nn.Module) -> None:
    """Let the layers forget what they computed, and compute it again in the backward pass."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            module.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
