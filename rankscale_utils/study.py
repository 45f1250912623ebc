"""A study's parameters, validated, its grid of runs, and its paths: the one place that knows where things lie."""

import difflib
import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rankscale_utils.files import digest

ROOT = Path(os.environ.get("RANKSCALE_ROOT", Path(__file__).resolve().parents[1]))
OBJECTIVES = ("pointwise", "pairwise", "listwise")


class StudyError(ValueError):
    """A study cannot be used as written; the message names every field, its value and the remedy."""


class Part(BaseModel):
    """A part of a study: unknown fields are mistakes, and values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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

    vocabulary: int = Field(8192, ge=256)
    query_tokens: int = Field(20, ge=1)
    pair_tokens: int = Field(96, ge=8, description="query, document and the three special tokens together")


class Rung(Part):
    """One model size of the ladder: the hidden size is the dial, and the other shapes follow from it unless given."""

    hidden: int = Field(gt=0)
    layers: int = Field(2, gt=0)
    heads: int = Field(0, ge=0, description="0: one for every 16 of hidden, at least one")
    intermediate: int = Field(0, ge=0, description="MLP width; 0: twice hidden")

    @model_validator(mode="before")
    @classmethod
    def _follow(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and isinstance(hidden := fields.get("hidden"), int) and hidden > 0:
            follow = {"heads": max(1, hidden // 16), "intermediate": 2 * hidden}
            return follow | {name: value for name, value in fields.items() if value or name not in follow}
        return fields

    @model_validator(mode="after")
    def _heads_divide(self) -> "Rung":
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} is not a multiple of heads {self.heads}: change one of them")
        return self


class LearningRate(Part):
    """The rule that gives each rung its rate: base × (hidden / 32)^−power."""

    base: float = Field(gt=0, lt=1)
    power: float = Field(0.75, ge=0)

    def of(self, rung: Rung) -> float:
        """Return the learning rate of a rung."""
        return self.base * (rung.hidden / 32) ** -self.power


class Objective(Part):
    """What one objective needs: its seeds (one run each on every rung) and its learning-rate rule."""

    seeds: tuple[int, ...] = Field((0,), min_length=1)
    learning_rate: LearningRate


class Groups(Part):
    """A training group: one relevant document, hard negatives from BM25's top ranks, random negatives."""

    hard: int = Field(4, ge=0)
    random: int = Field(1, ge=0)
    hard_depth: int = Field(20, gt=0, description="hard negatives are drawn from this many top ranks")
    queries_per_step: int = Field(16, gt=0)

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

    exposures: tuple[int, ...] = Field(min_length=1, description="training pairs at which a checkpoint is kept")
    groups: Groups = Groups()
    cooldown: float = Field(0.2, ge=0, lt=1, description="share of each exposure over which the rate falls to zero")
    warmup_steps: int = Field(100, ge=0)
    weight_decay: float = Field(0.01, ge=0, description="of matrices; biases and norms never decay")
    threads: int = Field(1, gt=0, description="CPU threads of one run; runs share the machine's cores")

    @model_validator(mode="after")
    def _exposures_rise(self) -> "Training":
        if list(self.exposures) != sorted(set(self.exposures)) or self.exposures[0] < self.groups.pairs_per_step:
            raise ValueError(
                f"exposures {list(self.exposures)} must rise and start at one step or more "
                f"({self.groups.pairs_per_step} pairs): reorder them or raise the first"
            )
        return self


class Evaluation(Part):
    """The test: how many queries, and how many BM25 candidates of each are reranked."""

    queries: int = Field(1000, gt=0)
    depth: int = Field(20, ge=10)
    metrics: tuple[str, ...] = ("nDCG@10", "RR@10", "AP", "R@5", "R@10", "P@10")


class HeldOut(Part):
    """Rungs that no fit may see; their forecasts are sealed before they are opened."""

    rungs: tuple[str, ...] = Field(min_length=1)


class Forecasting(Part):
    """What is forecast, and with which confidence."""

    metrics: tuple[str, ...] = Field((), description="empty: every metric that the measurements hold")
    headline: str | None = Field(None, description="the metric that the report opens with; the first one when absent")
    level: float = Field(0.95, gt=0.5, lt=1)
    draws: int = Field(1000, ge=100, description="resamples of the runs")
    simulations: int = Field(200, ge=10, description="simulated studies that tell how often intervals cover")


class Allocation(Part):
    """What compute is counted with where the measurements bring no FLOPs of their own."""

    tokens_per_pair: int = Field(128, gt=0, description="then a pair costs 6 × non-embedding parameters × tokens")


class Run(Part):
    """One independent run: an objective, a rung and a seed."""

    objective: Literal["pointwise", "pairwise", "listwise"]
    rung: str
    seed: int

    @property
    def name(self) -> str:
        """The run's name, which is also its folder's."""
        return f"{self.objective}-{self.rung}-s{self.seed}"


class Study(Part):
    """A whole study: either one that trains its own ladder, or one that brings `measurements` as a CSV."""

    name: str
    source: Path = Field(description="the YAML file")
    title: str = ""
    measurements: Path | None = Field(None, description="a CSV to fit, relative to the YAML; then nothing is trained")
    collection: Literal["docstrings"] = "docstrings"
    docstrings: Docstrings = Docstrings()
    first_stage: FirstStage = FirstStage()
    text: Text = Text()
    architecture: Literal["bert", "modernbert"] = "bert"
    ladder: dict[str, Rung] = {}
    objectives: dict[Literal["pointwise", "pairwise", "listwise"], Objective] = {}
    training: Training | None = None
    evaluation: Evaluation = Evaluation()
    held_out: HeldOut
    forecasting: Forecasting = Forecasting()
    allocation: Allocation = Allocation()

    @model_validator(mode="after")
    def _trains_or_brings(self) -> "Study":
        if self.measurements is not None:
            if self.ladder or self.objectives or self.training:
                raise ValueError("measurements and ladder, objectives or training exclude each other: drop one side")
            return self
        missing = [field for field in ("ladder", "objectives", "training") if not getattr(self, field)]
        if missing:
            raise ValueError(f"{', '.join(missing)} missing: write them, or point `measurements` at a CSV")
        unknown = [rung for rung in self.held_out.rungs if rung not in self.ladder]
        if unknown:
            raise ValueError(f"held_out.rungs {unknown} are not on the ladder {list(self.ladder)}: name rungs of it")
        if len(self.ladder) - len(set(self.held_out.rungs)) < 3:
            raise ValueError("a size law needs three fitted rungs or more: lengthen the ladder or hold out fewer")
        if self.training and self.text.pair_tokens < self.text.query_tokens + 4:
            raise ValueError("text.pair_tokens leaves no room for a document: raise it or lower text.query_tokens")
        return self

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
    try:
        return Study(name=source.stem, source=source, **fields)
    except (ValidationError, TypeError) as error:
        raise StudyError(f"{source.name}: {_mistakes(error)}") from None


def _mistakes(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return "name and source come from the file's own name: remove these fields."
    sentences = []
    for mistake in error.errors():
        field = ".".join(str(place) for place in mistake["loc"]) or "study"
        if mistake["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(mistake["loc"][-1]), _field_names(), n=1)
            sentences.append(f"{field} is not a field of a study" + (f", did you mean {near[0]}?" if near else "."))
        elif mistake["type"] == "missing":
            sentences.append(f"{field} is missing: add it.")
        elif mistake["type"] == "value_error":
            sentences.append(f"{mistake['msg'].removeprefix('Value error, ')}.")
        else:
            sentences.append(f"{field} = {mistake['input']!r}: {mistake['msg'].lower()}.")
    count = len(sentences)
    return (
        " ".join(sentences)
        if count == 1
        else f"{count} mistakes: " + " ".join(f"({n}) {s}" for n, s in enumerate(sentences, 1))
    )


def _field_names() -> list[str]:
    parts = [
        Study,
        Docstrings,
        FirstStage,
        Text,
        Rung,
        LearningRate,
        Objective,
        Groups,
        Training,
        Evaluation,
        HeldOut,
        Forecasting,
    ]
    parts += [Allocation]
    return [name for part in parts for name in part.model_fields]
