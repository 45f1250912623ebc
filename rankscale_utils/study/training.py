"""Training groups, steps, exposures and annotated pairs, as a study states them."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from .fields import Finite, FolderName, Part, Whole, refusal
from .ladder import Rung
from .objectives import LearningRate, Objective, Rate


class Groups(Part):
    """A training group: one relevant document, hard negatives from BM25's top ranks, random negatives."""

    hard: Whole = Field(4, ge=0)
    random: Whole = Field(1, ge=0)
    hard_depth: Whole = Field(20, gt=0, description="hard negatives are drawn from this many top ranks")
    queries_per_step: Whole = Field(16, gt=0)

    @refusal("hard_depth")
    def _too_shallow(hard_depth: int, earlier: dict) -> Iterator[str]:
        if hard_depth < (hard := earlier.get("hard", 0)):
            yield f"so few ranks do not hold hard = {hard} negatives: raise it or lower hard"

    @property
    def size(self) -> int:
        """Documents in a group."""
        return 1 + self.hard + self.random

    @property
    def ranks(self) -> int:
        """Top ranks of the first stage that a query's training needs."""
        return self.hard_depth if self.hard else 0

    @property
    def pairs_per_step(self) -> int:
        """Training pairs of one optimiser step."""
        return self.size * self.queries_per_step


class Lora(Part):
    """Low-rank changes of a decoder's linear layers, trained instead of its weights and merged into what is saved."""

    rank: Whole = Field(gt=0)
    alpha: Finite | None = Field(None, gt=0, description="changes count alpha / rank times; absent: twice the rank")


class Training(Part):
    """The training of every run."""

    groups: Groups = Groups()
    exposures: tuple[Whole, ...] = Field(min_length=1, description="training pairs at which a checkpoint is kept")
    cooldown: Finite = Field(0.2, ge=0, lt=1, description="share of each exposure over which the rate falls to zero")
    warmup_steps: Whole = Field(100, ge=0)
    weight_decay: Finite = Field(
        0.01,
        ge=0,
        description="of matrices, each step this share of the rate at hidden size 32, so that all rungs decay alike; "
        "of each rung's own rate where `learning_rate.of` gives them",
    )
    threads: Whole = Field(1, gt=0, description="CPU threads of one run; runs share the machine's cores")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on a GPU, fp32 on a CPU")
    micro_batch: Whole | None = Field(
        None,
        gt=0,
        description="pairs, or texts of a bi-encoder, in memory at once; absent: a whole step, halved whenever memory "
        "runs out",
    )
    gradient_checkpointing: bool = Field(False, description="a third more compute for a fraction of the memory")
    gpus: Whole = Field(1, gt=0, description="GPUs that train one run together")
    lora: Lora | None = Field(None, description="of decoders; absent: all weights are trained")
    sharded: bool = Field(False, description="divide weights and optimiser among these GPUs (FSDP)")

    @refusal("gpus")
    def _too_many(gpus: int, earlier: dict) -> Iterator[str]:
        if "groups" in earlier and gpus > (queries := earlier["groups"].queries_per_step):
            yield f"a step of queries_per_step = {queries} has no query for each of them: lower it or take more queries"

    @refusal("sharded")
    def _nothing_to_divide(sharded: bool, earlier: dict) -> Iterator[str]:
        if sharded and earlier.get("gpus") == 1:
            yield "with gpus = 1 there is nothing to divide the weights among: raise gpus or drop the field"

    @refusal("exposures")
    def _not_rising(exposures: tuple[int, ...], earlier: dict) -> Iterator[str]:
        if "groups" not in earlier:
            return
        step = earlier["groups"].pairs_per_step
        steps = [exposure // step for exposure in exposures]
        if steps != sorted(set(steps)) or steps[0] < 1:
            yield (
                f"must rise by whole steps and start at one step or more ({step} pairs): reorder them or raise those "
                "that fall into the same step"
            )


class Generator(Part):
    """The ED2LM that writes queries; a third of the training pairs teach it, and it asks of other documents."""

    shape: Rung = Rung(hidden=64)
    learning_rate: Rate = 2e-3
    pairs: Whole = Field(60_000, gt=0, description="training pairs that it sees")
    queries_per_step: Whole = Field(32, gt=0)

    @property
    def objective(self) -> Objective:
        """What it is trained for."""
        return Objective(learning_rate=LearningRate(of={"generator": self.learning_rate}))


class Annotations(Part):
    """How much annotated pairs are worth: nested subsets of them, from several sources, each trained to its own end.

    A run ends where further checkpoints no longer lower the contrastive entropy of training pairs that no run sees.
    """

    counts: tuple[Whole, ...] = Field(min_length=4, description="annotated pairs; the most are human and held out")
    rungs: tuple[str, ...] = Field(min_length=1, description="trained on human pairs; the last one on every source")
    sources: tuple[Literal["human", "inverse_cloze", "generated"], ...] = Field(
        ("human",), description="generated: by an ED2LM of ours, trained on human pairs that it does not annotate"
    )
    generator: Generator = Generator()
    files: dict[FolderName, str] = Field(
        {}, description='queries of a language model, {"document_id": …, "query": …} a line, by source'
    )
    seeds: tuple[Whole, ...] = Field((0,), min_length=1)
    exposures: tuple[Whole, ...] = Field(min_length=3, description="training pairs after which a run may end")

    @refusal("counts")
    def _not_rising(counts: tuple[int, ...], _: dict) -> Iterator[str]:
        if list(counts) != sorted(set(counts)) or counts[0] < 1:
            yield "must rise from 1 on: reorder them"

    @refusal("sources")
    def _nothing_to_compare(sources: tuple[str, ...], _: dict) -> Iterator[str]:
        if "human" not in sources:
            yield "human pairs are what the others are compared with: add human"

    @refusal("files")
    def _known(files: dict[str, str], _: dict) -> Iterator[str]:
        if known := sorted({"human", "inverse_cloze", "generated"} & set(files)):
            yield f"{known} are sources of our own: name the file's queries otherwise"
