"""The parts of a study: what may be written in its YAML, with units, defaults and what is refused."""

import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
)


def _number(value: Any) -> Any:
    """Read a number that YAML takes for a word, such as 1e5."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _folder_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        raise ValueError(
            "becomes a folder's name: use letters, digits, dots, dashes and underscores, and begin with no dot or dash"
        )
    return name


def refused(field: str) -> Callable[[Callable[[Any, dict], Iterator[str]]], Any]:
    """Let a part refuse a field for every sentence that the function makes of it and the valid fields before it."""

    def validator(sentences: Callable[[Any, dict], Iterator[str]]) -> Any:
        def check(_: type, value: Any, info: Any) -> Any:
            if mistakes := list(sentences(value, info.data)):
                raise ValueError(*mistakes)
            return value

        return field_validator(field)(classmethod(check))

    return validator


Whole = Annotated[int, BeforeValidator(_number)]
Finite = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
FolderName = Annotated[str, AfterValidator(_folder_name)]
Family = Literal["cross_encoder", "bi_encoder", "ed2lm"]
OfScores = Literal["pointwise", "pairwise", "listwise", "lambdaloss", "margin_mse", "ranknet_distillation"]
OfTexts = Literal["contrastive"]
OfGeneration = Literal["generation", "unlikelihood", "true_false", "margin"]
ObjectiveName = Literal[OfScores, OfTexts, OfGeneration]
FAMILIES: dict[str, Family] = dict.fromkeys(get_args(OfTexts), "bi_encoder")  # of objectives that only one family has
FAMILIES |= dict.fromkeys(get_args(OfGeneration), "ed2lm")
DISTILLED = frozenset({"margin_mse", "ranknet_distillation"})  # objectives that learn from a teacher's scores


class Part(BaseModel):
    """A part of a study: unknown fields are mistakes, and values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Docstrings(Part):
    """Which sources the collection `docstrings` reads."""

    packages: tuple[str, ...] = Field(
        (), description="`python` is the standard library; empty: all that the lock names"
    )


class JudgedCollection(Part):
    """What collections with judgments of their own share: who supplies the candidates, and what counts as relevant."""

    candidates: str = Field("bm25", min_length=1, description="bm25, or a TREC run, relative to the YAML")
    relevant_from: Whole | None = Field(
        None, gt=0, description="the lowest grade that is relevant; absent: 2 for TREC DL, as is its custom, else 1"
    )
    teacher: str | None = Field(
        None, description="a TREC run whose scores of the training candidates a student learns from"
    )

    @property
    def files(self) -> list[str]:
        """The files that it names, as written."""
        given = [] if self.candidates in ("bm25", "scoreddocs") else [self.candidates]
        return given + [self.teacher] * (self.teacher is not None)


class IrDatasets(JudgedCollection):
    """A collection that ir_datasets knows; its files lie in the folder IR_DATASETS_HOME or are downloaded there."""

    ir_datasets: str = Field(min_length=1, description="its id, such as msmarco-passage/train")
    candidates: str = Field("bm25", min_length=1, description="bm25, scoreddocs (the id's own), or a TREC run's path")
    queries: Whole | None = Field(None, gt=0, description="so many, chosen by the hash of their text; absent: all")


class TrecFiles(JudgedCollection):
    """Files of one's own: documents and queries (id<TAB>text, or JSON lines), judgments and a run in TREC's format."""

    documents: str
    queries: str
    judgments: str

    @property
    def files(self) -> list[str]:
        """The files that it names, as written."""
        return [self.documents, self.queries, self.judgments, *super().files]


class PairsFile(Part):
    """A file of pairs (.jsonl, .tsv, also .gz, or .parquet): query, positive and, if known, negatives and grade.

    Four fifths of the queries train, a tenth is never used (dev), and a tenth is the test, by the hash of their text.
    """

    pairs: str

    @property
    def files(self) -> list[str]:
        """The files that it names, as written."""
        return [self.pairs]


def _form(given: Any) -> str | None:
    """Return which form of a collection is meant, in brackets, which keep it out of messages."""
    fields = given.model_fields_set if isinstance(given, Part) else given if isinstance(given, dict) else [given]
    forms = ("docstrings", "ir_datasets", "pairs", "documents")
    return next((f"[{form}]" for form in forms if form in fields), None)


CollectionForm = Annotated[
    Annotated[Literal["docstrings"], Tag("[docstrings]")]
    | Annotated[IrDatasets, Tag("[ir_datasets]")]
    | Annotated[PairsFile, Tag("[pairs]")]
    | Annotated[TrecFiles, Tag("[documents]")],
    Discriminator(
        _form,
        custom_error_type="no_collection",
        custom_error_message="write docstrings, {ir_datasets: ID}, {pairs: FILE}, or "
        "{documents: FILE, queries: FILE, judgments: FILE}",
    ),
]


class FirstStage(Part):
    """BM25 (bm25s, method `lucene`) that supplies the candidates."""

    k1: float = Field(0.9, ge=0)
    b: float = Field(0.4, ge=0, le=1)


class Text(Part):
    """How text becomes tokens: a WordPiece vocabulary trained on the training split, and lengths in tokens."""

    vocabulary: Whole = Field(8192, ge=256, description="pretrained rungs bring their own tokenizer instead")
    query_tokens: Whole = Field(20, ge=1)
    pair_tokens: Whole = Field(
        96,
        ge=8,
        description="query, document and three special tokens; where they are read apart, a document keeps "
        "what is left beside the longest query",
    )

    @refused("pair_tokens")
    def _no_room(pair_tokens: int, earlier: dict) -> Iterator[str]:
        query_tokens = earlier.get("query_tokens", 0)
        if pair_tokens < query_tokens + 4:
            yield f"leaves no room for a document beside query_tokens = {query_tokens}: raise it or lower query_tokens"

    @property
    def document_tokens(self) -> int:
        """The most tokens of a document that is read apart from its query, without special tokens."""
        return self.pair_tokens - self.query_tokens - 3


class Rung(Part):
    """One model size of the ladder: the hidden size is the dial, and the other shapes follow from it unless given."""

    hidden: Whole = Field(gt=0)
    layers: Whole = Field(2, gt=0)
    heads: Whole = Field(0, ge=0, description="0: one for every 16 of hidden, at least one")
    intermediate: Whole = Field(0, ge=0, description="MLP width; 0: twice hidden")

    @field_validator("heads", "intermediate")
    @classmethod
    def _follow(cls, given: int, info: Any) -> int:
        hidden = info.data.get("hidden", 0)
        return given or {"heads": max(1, hidden // 16), "intermediate": 2 * hidden}[info.field_name]

    @refused("heads")
    def _indivisible(heads: int, earlier: dict) -> Iterator[str]:
        if (hidden := earlier.get("hidden", 0)) % heads:
            yield f"hidden {hidden} is not a multiple of heads {heads}: change one of them"


class Pretrained(Part):
    """One pretrained encoder of the ladder: a Hugging Face id, or a local folder that `save_pretrained` wrote."""

    pretrained: str = Field(min_length=1)


LADDERS = {"ettin": {size: f"jhu-clsp/ettin-encoder-{size}" for size in ("17m", "32m", "68m", "150m", "400m", "1b")}}


def _by_name(ladder: Any) -> Any:
    """Return rungs by name for a known ladder's name or a list of ids, whose last parts become the names."""
    if isinstance(ladder, str):
        if ladder not in LADDERS:
            raise ValueError(f"no ladder has that name: write {', '.join(LADDERS)}, or a list of ids or folders")
        return LADDERS[ladder]
    if not isinstance(ladder, list):
        return ladder
    if strange := [source for source in ladder if not isinstance(source, str)]:
        raise ValueError(f"{strange} are no ids or folders: write `name: {{hidden: …}}` for a shape")
    names = [source.rstrip("/").split("/")[-1] for source in ladder]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{twice} name more than one rung: write `name: id` for each instead")
    return dict(zip(names, ladder, strict=True))


def _kind(rung: Any) -> str:
    return "[pretrained]" if isinstance(rung, str | Pretrained) else "[shape]"


def _source(rung: Any) -> Any:
    return {"pretrained": rung} if isinstance(rung, str) else rung


AnyRung = Annotated[
    Annotated[Rung, Tag("[shape]")] | Annotated[Pretrained, BeforeValidator(_source), Tag("[pretrained]")],
    Discriminator(_kind),
]
Ladder = Annotated[dict[FolderName, AnyRung], BeforeValidator(_by_name)]
Rate = Annotated[Finite, Field(gt=0, lt=1)]


class LearningRate(Part):
    """The rule that gives each rung its rate: base × (hidden / 32)^−power, or `of` with a rate for every rung.

    The Ettin rerankers' own, for pointwise distillation in batches of 192 to 1,024 pairs, are 17m: 2.4e-4, 32m: 1.2e-4,
    68m: 3e-5, 150m: 1.5e-5, 400m: 7e-6 and 1b: 3e-6.
    """

    base: Rate | None = Field(None, description="the rate at hidden size 32")
    power: float = Field(0.75, ge=0)
    of: dict[str, Rate] | None = Field(None, description="rates by rung, instead of the rule")
    sweep: tuple[Annotated[Finite, Field(gt=0)], ...] = Field(
        (), description="factors on a rung's rate, tried on its shortest exposure; training queries choose among them"
    )

    @refused("of")
    def _neither_or_both(of: dict[str, float] | None, earlier: dict) -> Iterator[str]:
        if of is None and earlier.get("base", 1) is None:
            yield "without base there is no rate: give base, or a rate for every rung"
        if of is not None and earlier.get("base") is not None:
            yield f"stands beside base = {earlier['base']}: give one of the two"

    def at(self, rung: str, hidden: int) -> float:
        """Return the learning rate of a rung of that hidden size."""
        return self.of[rung] if self.of else self.base * (hidden / 32) ** -self.power


class Objective(Part):
    """What one objective needs: its seeds (one run each on every rung) and its learning-rate rule."""

    seeds: tuple[Whole, ...] = Field((0,), min_length=1)
    learning_rate: LearningRate
    temperature: Finite | None = Field(None, gt=0, description="of listwise's softmax; scores are divided by it")
    in_batch: bool = Field(False, description="contrastive: other queries' relevant documents are negatives too")
    score: Literal["log_likelihood", "true_false", "both"] | None = Field(
        None, description="of ED2LM, which ranks by it; absent: true_false where the objective trains it"
    )

    @refused("seeds")
    def _repeated(seeds: tuple[int, ...], _: dict) -> Iterator[str]:
        if len(set(seeds)) < len(seeds):
            yield "the same seed trains the same run again: give every run a seed of its own"


def _common(dimensions: Any) -> Any:
    """Return the dimensions that all rungs of a mapping project to."""
    if isinstance(dimensions, dict) and len(set(dimensions.values())) > 1:
        each = ", ".join(f"{rung} to {count}" for rung, count in dimensions.items())
        raise ValueError(f"rungs project to different dimensions ({each}): a ladder needs the same for all")
    return next(iter(dimensions.values()), dimensions) if isinstance(dimensions, dict) else dimensions


class BiEncoderSettings(Part):
    """How a bi-encoder makes an embedding of a text; the defaults are those of arXiv 2403.18684."""

    dimensions: Annotated[Whole, BeforeValidator(_common)] = Field(
        768, gt=0, description="that every rung projects to, or a mapping of the rungs, which must agree"
    )
    pooling: Literal["mean", "cls"] = "mean"


class Ed2lmSettings(Part):
    """The encoder of an ED2LM trained from scratch, and what its decoder reads."""

    encoder_layers: Whole | None = Field(None, gt=0, description="absent: as many as the decoder's, a rung's layers")
    poolings: tuple[Whole, ...] = Field(
        (1,), min_length=1, description="neighbouring document states that are averaged; each step trains one of them"
    )

    @refused("poolings")
    def _no_pooling(poolings: tuple[int, ...], _: dict) -> Iterator[str]:
        if min(poolings, default=1) < 1 or len(set(poolings)) < len(poolings):
            yield "each is a number of tokens from 1 on, given once: correct them"


class Groups(Part):
    """A training group: one relevant document, hard negatives from BM25's top ranks, random negatives."""

    hard: Whole = Field(4, ge=0)
    random: Whole = Field(1, ge=0)
    hard_depth: Whole = Field(20, gt=0, description="hard negatives are drawn from this many top ranks")
    queries_per_step: Whole = Field(16, gt=0)

    @refused("hard_depth")
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


class Training(Part):
    """The training of every run."""

    groups: Groups = Groups()
    exposures: tuple[Whole, ...] = Field(min_length=1, description="training pairs at which a checkpoint is kept")
    cooldown: float = Field(0.2, ge=0, lt=1, description="share of each exposure over which the rate falls to zero")
    warmup_steps: Whole = Field(100, ge=0)
    weight_decay: float = Field(
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
    sharded: bool = Field(False, description="divide weights and optimiser among these GPUs (FSDP)")

    @refused("gpus")
    def _too_many(gpus: int, earlier: dict) -> Iterator[str]:
        if "groups" in earlier and gpus > (queries := earlier["groups"].queries_per_step):
            yield f"a step of queries_per_step = {queries} has no query for each of them: lower it or take more queries"

    @refused("sharded")
    def _nothing_to_divide(sharded: bool, earlier: dict) -> Iterator[str]:
        if sharded and earlier.get("gpus") == 1:
            yield "with gpus = 1 there is nothing to divide the weights among: raise gpus or drop the field"

    @refused("exposures")
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


class Evaluation(Part):
    """The tests: which collections, and how many candidates of each query are reranked."""

    tests: dict[FolderName, CollectionForm] = Field(
        {}, description="test collections by name; absent: the collection's own test split"
    )
    queries: Whole = Field(1000, gt=0, description="queries of an own test split, chosen by the hash of their text")
    depth: Whole = Field(20, ge=10, description="candidates that are reranked, and documents that a search finds")
    negatives: Whole = Field(256, gt=0, description="of a bi-encoder's contrastive entropy, drawn from the pool")
    pool: Whole = Field(100_000, gt=0, description="random documents that these come from; all where there are fewer")
    metrics: tuple[str, ...] = Field(("nDCG@10", "RR@10", "AP", "R@5", "R@10", "P@10"), validate_default=False)

    @property
    def entropy(self) -> str:
        """The name of a bi-encoder's contrastive entropy against random documents, such as CE256."""
        return f"CE{self.negatives}"

    @refused("pool")
    def _too_small(pool: int, earlier: dict) -> Iterator[str]:
        if pool < (negatives := earlier.get("negatives", 0)):
            yield f"so few documents do not hold negatives = {negatives}: raise it or lower negatives"

    @refused("metrics")
    def _unknown(metrics: tuple[str, ...], _: dict) -> Iterator[str]:
        if unknown := [metric for metric in metrics if not _is_measure(metric)]:
            yield f"{unknown} are no rising measures in ir-measures' notation: write nDCG@10, RR@10, AP, R@5, P@10 …"


def _is_measure(name: str) -> bool:
    import ir_measures  # here, since it takes longer to import than all else

    try:
        measure = ir_measures.parse_measure(name)
        known = str(measure) == name and ir_measures.DefaultPipeline.supports(measure)
    except Exception:  # of many kinds: NameError, AssertionError, KeyError, …
        return False
    return known and not name.startswith(("Num", "Judged")) and not name.endswith("@0")


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

    @refused("counts")
    def _not_rising(counts: tuple[int, ...], _: dict) -> Iterator[str]:
        if list(counts) != sorted(set(counts)) or counts[0] < 1:
            yield "must rise from 1 on: reorder them"

    @refused("sources")
    def _nothing_to_compare(sources: tuple[str, ...], _: dict) -> Iterator[str]:
        if "human" not in sources:
            yield "human pairs are what the others are compared with: add human"

    @refused("files")
    def _known(files: dict[str, str], _: dict) -> Iterator[str]:
        if known := sorted({"human", "inverse_cloze", "generated"} & set(files)):
            yield f"{known} are sources of our own: name the file's queries otherwise"


class HeldOut(Part):
    """Rungs that no fit may see; their forecasts are sealed before they are opened."""

    rungs: tuple[str, ...] = Field(min_length=1)


class Exponent(Part):
    """Prior of the size exponent on non-embedding parameters: its mean over series, and how far series lie apart."""

    mean: float = Field(0.53, gt=0, le=3, description="arXiv 2403.18684, on two collections")
    sd: float = Field(0.15, gt=0, le=3)
    between: float = Field(0.10, gt=0, le=3, description="standard deviation of a series around the mean")


class Forecasting(Part):
    """What is forecast, and with which confidence."""

    metrics: tuple[str, ...] = Field((), description="empty: every metric that the measurements hold")
    headline: str | None = Field(None, description="the metric that the report opens with; the first one when absent")
    size: Literal["params_non_embedding", "params", "flops_per_pair"] = Field(
        "params_non_embedding", description="what N counts"
    )
    exposure: Literal["exposure", "queries", "tokens"] = Field("exposure", description="what D counts; exposure: pairs")
    checkpoints: Whole = Field(1, gt=0, description="so many neighbouring checkpoints of a run are averaged to one row")
    burn_in: float = Field(0.1, ge=0, lt=1, description="share of a run's largest exposure that fits leave out")
    prior: Exponent = Exponent()
    level: float = Field(0.95, gt=0.5, lt=1)
    draws: Whole = Field(1000, ge=100, description="resamples of the runs")
    simulations: Whole = Field(200, ge=10, description="simulated studies that say how far intervals must reach")


class Allocation(Part):
    """What compute and annotation cost, and what the system will serve: all assumed unless the study says otherwise.

    Prices of compute are dollars per 1e18 FLOPs. The default 1.4 assumes $2 an H100-hour at 4e14 FLOP/s sustained.
    """

    tokens_per_pair: Whole = Field(
        128, gt=0, description="without counted FLOPs a pair costs 6 × non-embedding parameters × tokens"
    )
    queries: Finite = Field(1e7, ge=0, description="served over the system's life; 0: only training is paid for")
    depth: Whole = Field(100, gt=0, description="candidates scored a query when it serves")
    training_price: Finite = Field(1.4, gt=0, description="dollars per 1e18 FLOPs of training")
    serving_price: Finite = Field(1.4, ge=0, description="dollars per 1e18 FLOPs of serving")
    annotation_price: Finite = Field(
        0.6, gt=0, description="dollars an annotated pair; assumed: a minute of work at $36 an hour"
    )
    documents: Finite = Field(
        1e8, ge=0, description="a retriever embeds over its life, each counted whenever it is; assumed"
    )
    budget: Finite | None = Field(
        None, gt=0, description="dollars; absent: ten times the costliest run's training, and serving its model"
    )
    wanted: Finite | None = Field(
        None, gt=0, description="value of the headline metric; absent: the largest rung's best, for each objective"
    )
