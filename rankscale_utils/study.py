"""A study, validated, its grid of runs, and its paths: the one place that knows where things lie."""

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from rankscale_utils.files import digest
from rankscale_utils.parts import (
    DISTILLED,
    Allocation,
    CollectionForm,
    Docstrings,
    Evaluation,
    FirstStage,
    FolderName,
    Forecasting,
    HeldOut,
    Ladder,
    Objective,
    ObjectiveName,
    PairsFile,
    Part,
    Pretrained,
    Rung,
    Text,
    Training,
    refused,
)

ROOT = Path(os.environ.get("RANKSCALE_ROOT", Path(__file__).resolve().parents[1]))


class StudyError(ValueError):
    """A study cannot be used as written; the message names every field, its value and the remedy."""


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
    collection: CollectionForm = "docstrings"
    docstrings: Docstrings = Docstrings()
    first_stage: FirstStage = FirstStage()
    text: Text = Text()
    architecture: Literal["bert", "modernbert"] = "bert"
    ladder: Ladder = Field(
        default_factory=dict,
        description="rungs by name: shapes trained from scratch, or Hugging Face ids and folders, relative to the YAML",
    )
    objectives: dict[ObjectiveName, Objective] = Field(default_factory=dict)
    training: Training | None = None
    evaluation: Evaluation = Evaluation()
    held_out: HeldOut
    forecasting: Forecasting = Forecasting()
    allocation: Allocation = Allocation()

    @refused("training")
    def _unscored(training: Training | None, earlier: dict) -> Iterator[str]:
        if training and training.groups.random and getattr(earlier.get("collection"), "teacher", None):
            yield "no teacher scores random negatives: set groups.random = 0, or remove collection.teacher"

    @refused("evaluation")
    def _unusable_tests(evaluation: Evaluation, earlier: dict) -> Iterator[str]:
        for name, test in evaluation.tests.items():
            if getattr(test, "teacher", None):
                yield f"tests.{name}.teacher: only training has a teacher: remove it"
        collection = earlier.get("collection", "docstrings")
        if not evaluation.tests and not isinstance(collection, str | PairsFile):
            yield (
                "this collection has no test split of its own: add tests, such as "
                "{dl19: {ir_datasets: msmarco-passage/trec-dl-2019/judged, candidates: scoreddocs}}"
            )

    @refused("ladder")
    def _mixed(ladder: dict, _: dict) -> Iterator[str]:
        kinds = {kind: [name for name, rung in ladder.items() if isinstance(rung, kind)] for kind in (Rung, Pretrained)}
        if all(kinds.values()):
            yield (
                f"{kinds[Rung]} are trained from scratch and {kinds[Pretrained]} are pretrained, which is no ladder of "
                "sizes alone: drop one side"
            )

    @refused("objectives")
    def _unmet(objectives: dict[str, Objective], earlier: dict) -> Iterator[str]:
        ladder = list(earlier.get("ladder", {}))
        for name, settings in objectives.items():
            if (rates := settings.learning_rate.of) and ladder and (wrong := set(rates) ^ set(ladder)):
                yield (
                    f"{name}.learning_rate.of names {list(rates)}, but the rungs are {ladder}: give a rate for each of "
                    f"them and for no other ({', '.join(sorted(wrong))})"
                )
            if settings.temperature and name != "listwise":
                yield f"{name}.temperature: only listwise has a softmax to cool: remove it"
            if name in DISTILLED and "collection" in earlier and not getattr(earlier["collection"], "teacher", None):
                yield f"{name} learns from a teacher's scores: name a TREC run of them as collection.teacher"

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
        for how in ("threads", "micro_batch", "gradient_checkpointing", "gpus", "sharded"):
            fields["training"].pop(how)
        return fields | {
            "run": run.name,
            "rung": self.ladder[run.rung].model_dump(),
            "objective": self.objectives[run.objective].model_dump(exclude={"seeds"}, exclude_none=True),
        }

    @property
    def pretrained(self) -> dict[str, str]:
        """The id or folder of every pretrained rung; empty for a ladder that is trained from scratch."""
        given = {name: rung.pretrained for name, rung in self.ladder.items() if isinstance(rung, Pretrained)}
        folders = {name: self.beside(source) for name, source in given.items()}
        return {name: str(folders[name]) if folders[name].is_dir() else given[name] for name in given}

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
        return self.beside(self.measurements)

    @property
    def input_files(self) -> dict[Path, str]:
        """The files of the collection and of the tests, and the field that names each."""
        forms = {"collection": self.collection}
        forms |= {f"evaluation.tests.{name}": test for name, test in self.evaluation.tests.items()}
        return {self.beside(path): field for field, form in forms.items() for path in getattr(form, "files", [])}

    def check_files(self) -> None:
        """Make sure that the files of the collection and of the tests are there.

        Raises:
            StudyError: one is not.
        """
        for path, field in self.input_files.items():
            if not path.is_file():
                raise StudyError(
                    f"{self.source.name}: {field} names {path}, which is no file: put it there or correct the path, "
                    "which is relative to the YAML."
                )

    def beside(self, path: str | Path) -> Path:
        """Return where a path of the YAML leads, which is relative to the YAML's own folder."""
        return (self.source.parent / path).resolve()


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
    if "architecture" in fields and _is_pretrained(fields.get("ladder")):
        mistakes.append(
            f"architecture = {fields['architecture']!r}: pretrained rungs bring their own: remove the field."
        )
    needed = ("ladder", "objectives", "training")
    missing = [field for field in needed if not fields.get(field)]
    if fields.get("measurements") is None:
        if missing:
            mistakes.append(f"{', '.join(missing)} missing: write them, or point `measurements` at a CSV.")
    elif len(missing) < len(needed):
        mistakes.append("measurements and ladder, objectives or training exclude each other: drop one side.")
    return mistakes


def _is_pretrained(ladder: Any) -> bool:
    rungs = ladder.values() if isinstance(ladder, dict) else [ladder]
    return any(isinstance(rung, str | list) for rung in rungs)


def _sentences(mistake: dict[str, Any]) -> list[str]:
    kind, value = mistake["type"], mistake["input"]
    field = ".".join(str(place) for place in mistake["loc"] if not str(place).startswith("["))
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
