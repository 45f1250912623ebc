"""A model in training: its steps, its state, and what it has seen."""

from collections import deque
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from rankscale_utils.collections import Collection
from rankscale_utils.collections.groups import Step, TrainingQueries, training_steps
from rankscale_utils.errors import StudyError
from rankscale_utils.machine.progress import Progress
from rankscale_utils.machine.transfer import ahead, fetch
from rankscale_utils.models.build import build_model, counted_share, hidden_size
from rankscale_utils.models.counts import parameters
from rankscale_utils.models.lora import add_lora, lora_parameters
from rankscale_utils.study.study import Run, Study, run_seed

from . import learner as learner_module
from .distributed import Processes, out_of_memory
from .gradient_cache import carry_back, micro_batches
from .health import Health
from .linear import multiply_by_onednn


@dataclass
class Seen:
    """What a model has been trained on so far, and how that went."""

    step: int = 0
    tokens: int = 0
    read: int = 0  # tokens that this process had to read
    computed: int = 0  # and with padding
    forward_flops: float = 0.0
    health: Health = field(default_factory=Health)


class Ready(NamedTuple):
    """A step, this process's part of it in micro-batches, and what it counts.

    parts: the places of each micro-batch's items; batches: those items as the model reads them; tokens, flops: of the
    whole step; read, computed: tokens of this process, without and with padding; at_once: the items of a micro-batch.
    """

    step: Step
    parts: list[np.ndarray]
    batches: list[Any]
    tokens: int
    flops: float
    read: int
    computed: int
    at_once: int


class Interrupted(Exception):
    """Training was told to stop between two steps."""


class Trainer:
    """A model in training. `seen` counts its own path only, so a branch counts like a run of its own.

    Beside a GPU the host is a step ahead: it prepares the next step's batch while one is computed, and reads a step's
    loss once the next one is on its way (`early`), so that a failed run is known a step late.
    """

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
        model = build_model(study, run, vocabulary, collection.token_shares).to(device).train()
        self.counts, self.counted_share = parameters(model), counted_share(model, min(study.text.pair_tokens, 64))
        self.rate = factor * objective.learning_rate.at(run.rung, hidden_size(model))
        self.changes = lora_parameters(model.encoder, settings.lora) if settings.lora else 0
        if settings.lora:
            add_lora(model, settings.lora)
        if settings.gradient_checkpointing:
            _checkpoint_gradients(model)
        automatic = "bf16" if device.type == "cuda" else "fp32"
        self.precision = automatic if settings.precision == "auto" else settings.precision
        if self.precision == "fp32" and not self.processes.sharded:
            multiply_by_onednn(model)
        self.processes.divide(model)
        decay = settings.weight_decay * (objective.learning_rate.base or self.rate) / self.rate
        self.model, self.optimizer = model, _optimizer(model, self.rate, decay)
        self.tokens = collection.tokens
        self.queries: TrainingQueries = collection.training_queries()
        self.learner = learner_module.learner(study, run, collection, model)
        self.most = -(-settings.groups.queries_per_step // self.processes.count) * self.learner.items
        self.micro_batches = [{"step": 0, "pairs": min(settings.micro_batch or self.most, self.most)}]
        self.seed, self.seen = run_seed(run, "dropout"), Seen()
        self.early = device.type == "cuda"
        self.unread: deque[Callable[[], np.ndarray]] = deque()
        self.stop: Callable[[], bool] = lambda: False  # asked before every step

    def state(self) -> dict[str, Any]:
        """Return a copy of all that decides how training goes on; random numbers follow from seed and step."""
        model, optimizer = self.processes.state(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer, "seen": deepcopy(self.seen)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self.processes.restore(self.model, self.optimizer, (state["model"], state["optimizer"]))
        self.seen = deepcopy(state["seen"])

    def advance(self, until: int, cool: bool, progress: Progress, since: int | None = None) -> None:
        """Take the steps up to `until`; with `cool` the rate falls linearly to zero on the way.

        since: the step at which the rate began to fall; absent: this one.

        Raises:
            Diverged: the run has failed.
            Interrupted: `stop` says so; the state is that after a whole step.
            StudyError: not even one pair fits in memory.
        """
        settings, begin = self.study.training, self.seen.step
        since = begin if since is None else since
        groups = training_steps(self.queries, settings.groups, run_seed(self.run, "data"), begin)
        for ready in ahead(self._ready, islice(groups, until - begin), self.early):
            if self.processes.any(self.stop()):
                self._read(0)
                raise Interrupted
            share = (until - self.seen.step) / (until - since) if cool else 1.0
            warm = min(1.0, (self.seen.step + 1) / (settings.warmup_steps + 1))
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * share * warm
            self._step(ready)
            progress.advance(ready.step.document_rows.size, f"loss {self.seen.health.last:.3f}")
        self._read(0)

    def _ready(self, step: Step) -> Ready:
        """Return a step with this process's part of it, in micro-batches of the present size."""
        at_once, learner = self.micro_batch, self.learner
        own = step.of(self.processes.share(len(step.query_rows)))
        lengths = learner.lengths(own)
        parts = micro_batches(lengths, at_once, self.most)
        batches = [learner.batch(own, part) for part in parts]
        computed = sum(learner.computed(own, part) for part in parts)
        tokens = int(lengths.sum() if self.processes.count == 1 else learner.lengths(step).sum())
        return Ready(step, parts, batches, tokens, learner.flops(step), int(lengths.sum()), computed, at_once)

    def _step(self, ready: Ready) -> None:
        ready, loss, scores = self._gradient(ready)
        self.unread.append(fetch(torch.cat([loss.view(1), scores.flatten()])))
        self._read(int(self.early))
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.seen.step += 1
        self.seen.tokens += ready.tokens
        self.seen.forward_flops += ready.flops
        self.seen.read += ready.read
        self.seen.computed += ready.computed

    def _read(self, left: int) -> None:
        """Note the losses and scores of steps until so many are left unread."""
        while len(self.unread) > left:
            loss, scores = np.split(self.unread.popleft()(), [1])
            scores = scores.reshape(self.study.training.groups.queries_per_step, -1)
            self.seen.health.note(float(loss[0]), scores, self.study.training.warmup_steps)

    def _gradient(self, ready: Ready) -> tuple[Ready, torch.Tensor, torch.Tensor]:
        """Leave the step's gradient in the model, in as many micro-batches as memory needs.

        Returns the step as it was divided, its loss and its scores.
        """
        while True:
            if ready.at_once != self.micro_batch:
                ready = self._ready(ready.step)
            self.optimizer.zero_grad(set_to_none=True)
            try:
                return ready, *self._carried_back(ready)
            except Exception as error:
                if not out_of_memory(error):
                    raise
            self._halve()  # outside the handler, which holds on to the tensors of what failed

    def _carried_back(self, ready: Ready) -> tuple[torch.Tensor, torch.Tensor]:
        loss = partial(self.learner.loss, step=ready.step)

        def score(_: np.ndarray, part: int) -> torch.Tensor:
            return self._outputs(ready.batches[part], part)

        value, outputs = carry_back(score, ready.parts, loss, self.processes)
        self.processes.add_up(self.model)
        return value, self.learner.scores(outputs, ready.step)

    def _outputs(self, batch: Any, part: int) -> torch.Tensor:
        """Return the outputs of a micro-batch; dropout draws alike for the same step and micro-batch."""
        place = [self.seed, self.seen.step, self.processes.index, part]
        seed = int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> np.uint64(1))
        torch.default_generator.manual_seed(seed)  # `torch.manual_seed` takes as long as a small layer
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.learner.outputs(batch).float()

    @torch.no_grad()
    def loss_of(self, step: Step) -> float:
        """Return the loss of a step that is not trained on, without dropout."""
        self.model.eval()
        items = step.query_rows.shape[0] * self.learner.items
        parts = np.array_split(np.arange(items), -(-items // self.micro_batch))
        outputs = torch.cat([self._outputs(self.learner.batch(step, part), 0) for part in parts])
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

        LoRA's costs it once, as what is frozen needs no gradient, and what its own parameters do comes on top.
        Source: Kaplan et al., arXiv 2001.08361, §2.1.
        """
        if not self.changes:
            return 3 * self.seen.forward_flops
        return 2 * self.seen.forward_flops + 3 * 2 * self.changes * self.seen.tokens


def _optimizer(model: torch.nn.Module, rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return AdamW; biases and norms never decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.dim() > 1]
    others = [parameter for parameter in trained if parameter.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


def _checkpoint_gradients(model: torch.nn.Module) -> None:
    """Let the layers forget what they computed, and compute it again in the backward pass."""
    for module in model.modules():
        layers = any(isinstance(part, GradientCheckpointingLayer) for part in module.modules())
        if isinstance(module, PreTrainedModel) and layers:
            module.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
