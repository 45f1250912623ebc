"""A study's parameters, validated, its grid of runs, and its paths: the one place that knows where things lie."""

import difflib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from rankscale_utils.files import digest

ROOT = Path(os.environ.get("RANKSCALE_ROOT", Path(__file__).resolve().parents[1]))


class StudyError(ValueError):
    """A study cannot be used as written; the message names every field, its value and the remedy."""


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
FolderName = Annotated[str, AfterValidator(_folder_name)]
ObjectiveName = Literal["pointwise", "pairwise", "listwise"]


class Part(BaseModel):
    """A part of a study: unknown fields are mistakes, and values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Docstrings(Part):
    """Which sources the collection `docstrings` reads."""

    packages: tuple[str, ...] = Field(
        (), description="`python` is the standard library; empty: all that the lock names"
    )


class FirstStage(Part):
    """BM25 (bm25s, method `lucene`) that supplies the candidates."""

    k1: float = Field(0.9, ge=0)
    b: float = Field(0.4, ge=0, le=1)


class Text(Part):
    """How text becomes tokens: a WordPiece vocabulary trained on the training split, and lengths in tokens."""

    vocabulary: Whole = Field(8192, ge=256)
    query_tokens: Whole = Field(20, ge=1)
    pair_tokens: Whole = Field(96, ge=8, description="query, document and the three special tokens together")

    @refused("pair_tokens")
    def _no_room(pair_tokens: int, earlier: dict) -> Iterator[str]:
        query_tokens = earlier.get("query_tokens", 0)
        if pair_tokens < query_tokens + 4:
            yield f"leaves no room for a document beside query_tokens = {query_tokens}: raise it or lower query_tokens"


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


class LearningRate(Part):
    """The rule that gives each rung its rate: base × (hidden / 32)^−power."""

    base: float = Field(gt=0, lt=1)
    power: float = Field(0.75, ge=0)

    def of(self, rung: Rung) -> float:
        """Return the learning rate of a rung."""
        return self.base * (rung.hidden / 32) ** -self.power


class Objective(Part):
    """What one objective needs: its seeds (one run each on every rung) and its learning-rate rule."""

    seeds: tuple[Whole, ...] = Field((0,), min_length=1)
    learning_rate: LearningRate

    @refused("seeds")
    def _repeated(seeds: tuple[int, ...], _: dict) -> Iterator[str]:
        if len(set(seeds)) < len(seeds):
            yield "the same seed trains the same run again: give every run a seed of its own"


class Groups(Part):
    """A training group: one relevant document, hard negatives from BM25's top ranks, random negatives."""

    hard: Whole = Field(4, ge=0)
    random: Whole = Field(1, ge=0)
    hard_depth: Whole = Field(20, gt=0, description="hard negatives are drawn from this many top ranks")
    queries_per_step: Whole = Field(16, gt=0)

    @refused("random")
    def _no_negatives(random: int, earlier: dict) -> Iterator[str]:
        if random == earlier.get("hard") == 0:
            yield "with hard = 0 a group has no negatives: raise one of them"

    @refused("hard_depth")
    def _too_shallow(hard_depth: int, earlier: dict) -> Iterator[str]:
        if hard_depth < (hard := earlier.get("hard", 0)):
            yield f"so few ranks do not hold hard = {hard} negatives: raise it or lower hard"

    @property
    def size(self) -> int:
        """Documents in a group."""
        return 1 + self.hard + self.random

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
    weight_decay: float = Field(0.01, ge=0, description="of matrices; biases and norms never decay")
    threads: Whole = Field(1, gt=0, description="CPU threads of one run; runs share the machine's cores")

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
    """The test: how many queries, and how many BM25 candidates of each are reranked."""

    queries: Whole = Field(1000, gt=0)
    depth: Whole = Field(20, ge=10)
    metrics: tuple[str, ...] = Field(("nDCG@10", "RR@10", "AP", "R@5", "R@10", "P@10"), validate_default=False)

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


class HeldOut(Part):
    """Rungs that no fit may see; their forecasts are sealed before they are opened."""

    rungs: tuple[str, ...] = Field(min_length=1)


class Forecasting(Part):
    """What is forecast, and with which confidence."""

    metrics: tuple[str, ...] = Field((), description="empty: every metric that the measurements hold")
    headline: str | None = Field(None, description="the metric that the report opens with; the first one when absent")
    level: float = Field(0.95, gt=0.5, lt=1)
    draws: Whole = Field(1000, ge=100, description="resamples of the runs")
    simulations: Whole = Field(100, ge=10, description="simulated studies that tell how often intervals cover")


class Allocation(Part):
    """What compute is counted with where the measurements bring no FLOPs of their own."""

    tokens_per_pair: Whole = Field(128, gt=0, description="then a pair costs 6 × non-embedding parameters × tokens")


class Run(Part):
    """One independent run: an objective, a rung and a seed."""

    objective: ObjectiveName
    rung: str
    seed: int

    @property
    def name(self) -> str:
        """The run's name, which is also its folder's."""
        return f"{self.objective}-{self.rung}-s{self.seed}"


class Study(Part):
    """A whole study: either one that trains its own ladder, or one that brings `measurements` as a CSV."""

    name: FolderName
    source: Path = Field(description="the YAML file")
    title: str = ""
    measurements: Path | None = Field(None, description="a CSV to fit, relative to the YAML; then nothing is trained")
    collection: Literal["docstrings"] = "docstrings"
    docstrings: Docstrings = Docstrings()
    first_stage: FirstStage = FirstStage()
    text: Text = Text()
    architecture: Literal["bert", "modernbert"] = "bert"
    ladder: dict[FolderName, Rung] = {}
    objectives: dict[ObjectiveName, Objective] = {}
    training: Training | None = None
    evaluation: Evaluation = Evaluation()
    held_out: HeldOut
    forecasting: Forecasting = Forecasting()
    allocation: Allocation = Allocation()

    @refused("held_out")
    def _too_little_left(held_out: HeldOut, earlier: dict) -> Iterator[str]:
        if ladder := list(earlier.get("ladder", {})):
            if unknown := [rung for rung in held_out.rungs if rung not in ladder]:
                yield f"{unknown} are not on the ladder {ladder}: name rungs of it"
            if len(fitted := [rung for rung in ladder if rung not in held_out.rungs]) < 3:
                yield (
                    f"{fitted} are left, but a size law needs three fitted rungs or more: lengthen the ladder or "
                    "hold out fewer"
                )

    @property
    def runs(self) -> list[Run]:
        """Every run of the study; empty when it brings its measurements."""
        return [
            Run(objective=objective, rung=rung, seed=seed)
            for objective, settings in self.objectives.items()
            for rung in self.ladder
            for seed in settings.seeds
        ]

    @property
    def fitted_runs(self) -> list[Run]:
        """The runs whose measurements a fit may see."""
        return [run for run in self.runs if run.rung not in self.held_out.rungs]

    def run(self, name: str) -> Run:
        """Return the run of that name.

        Raises:
            StudyError: the study has no such run.
        """
        runs = {run.name: run for run in self.runs}
        if name not in runs:
            raise StudyError(f"run {name!r} is not in study {self.name}: use one of {', '.join(runs)}.")
        return runs[name]

    def settings_of(self, run: Run) -> dict[str, Any]:
        """Return all that decides a run's weights, so that a change of anything else trains nothing again."""
        shared = {"collection", "docstrings", "first_stage", "text", "architecture", "training"}
        fields = self.model_dump(mode="json", include=shared)
        fields["training"].pop("threads")
        return fields | {
            "run": run.name,
            "rung": self.ladder[run.rung].model_dump(),
            "objective": self.objectives[run.objective].learning_rate.model_dump(),
        }

    @property
    def folder(self) -> Path:
        """Where the study's results lie."""
        return ROOT / "runs" / self.name

    @property
    def reports(self) -> Path:
        """Where the study's rendered pages lie."""
        return ROOT / "reports" / self.name

    def run_folder(self, run: Run) -> Path:
        """Where a run's checkpoints, ledger and measurements lie."""
        return self.folder / run.name

    @property
    def measurements_file(self) -> Path:
        """The CSV that the study brings."""
        if self.measurements is None:
            raise StudyError(f"study {self.name} trains its own ladder and brings no measurements.")
        return (self.source.parent / self.measurements).resolve()


def cache_folder() -> Path:
    """Where heavy things lie that studies share: texts, candidates, tokens."""
    return ROOT / "cache"


def run_seed(run: Run, purpose: str) -> int:
    """Return a 63-bit seed of a run for one purpose, so that runs share neither data order nor initial weights."""
    return int(digest(run.name, purpose, length=16), 16) >> 1


def find_study(study: str | Path) -> Path:
    """Return the YAML of a study given by name (`params/NAME.yaml`) or by path.

    Raises:
        StudyError: there is no such file; the message lists the studies there are.
    """
    given = Path(study)
    places = [given, ROOT / given] if given.suffix in (".yaml", ".yml") else [ROOT / "params" / f"{study}.yaml"]
    for place in places:
        if place.is_file():
            return place.resolve()
    known = ", ".join(sorted(path.stem for path in (ROOT / "params").glob("*.yaml")))
    raise StudyError(f"study {str(study)!r} is neither a YAML file nor one of params/: {known}.")


def load_study(study: str | Path) -> Study:
    """Return the validated study of a name or a path.

    Raises:
        StudyError: one message that names every mistake at once, with field, value and remedy.
    """
    source = find_study(study)
    try:
        fields = yaml.safe_load(source.read_text()) or {}
    except yaml.YAMLError as error:
        raise StudyError(f"{source.name} is not YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(fields, dict):
        raise StudyError(f"{source.name} holds no fields: write `field: value` lines, as params/demo.yaml does.")
    mistakes = _between(fields)
    try:
        study = Study.model_validate(fields | {"name": source.stem, "source": source})
    except ValidationError as error:
        mistakes += [sentence for mistake in error.errors() for sentence in _sentences(mistake)]
    if len(mistakes) > 1:
        mistakes = [f"{len(mistakes)} mistakes:", *(f"({n}) {said}" for n, said in enumerate(mistakes, 1))]
    if mistakes:
        raise StudyError(f"{source.name}: {' '.join(mistakes)}")
    return study


def _between(fields: dict) -> list[str]:
    """Return what is wrong with the choice of fields, whatever they hold."""
    mistakes = [
        f"{field} comes from the file's own name: remove the field." for field in ("name", "source") if field in fields
    ]
    needed = ("ladder", "objectives", "training")
    missing = [field for field in needed if not fields.get(field)]
    if fields.get("measurements") is None:
        if missing:
            mistakes.append(f"{', '.join(missing)} missing: write them, or point `measurements` at a CSV.")
    elif len(missing) < len(needed):
        mistakes.append("measurements and ladder, objectives or training exclude each other: drop one side.")
    return mistakes


def _sentences(mistake: dict[str, Any]) -> list[str]:
    kind, value = mistake["type"], mistake["input"]
    field = ".".join(str(place) for place in mistake["loc"] if place != "[key]")
    if kind == "too_short" and value:  # a tuple that lost its invalid items, which are mistakes themselves
        return []
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(mistake["loc"][-1]), _field_names(), n=1)
        return [f"{field} is not a field of a study" + (f", did you mean {near[0]}?" if near else ".")]
    if kind == "missing":
        return [f"{field} is missing: add it."]
    if kind == "invalid_key":
        return [f"{field} is not a field of a study: field names are words."]
    reasons = mistake["ctx"]["error"].args if kind == "value_error" else (mistake["msg"].lower(),)
    return [f"{field} = {value!r}: {reason}." for reason in reasons]


def _field_names() -> list[str]:
    return [name for part in Part.__subclasses__() if part is not Run for name in part.model_fields]
