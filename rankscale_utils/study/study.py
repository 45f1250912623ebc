"""A study, validated, its grid of runs, and its paths: the one place that knows where things lie."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import digest

from . import checks, paths
from .collection import CollectionForm, Docstrings
from .decoder import DecoderSettings
from .evaluation import Evaluation, FirstStage, Text, WithFirstStage, asked_for
from .fields import FolderName, Part, refusal
from .forecasting import Allocation, Forecasting, HeldOut
from .ladder import BiEncoderSettings, Ed2lmSettings, Ladder, Pretrained
from .objectives import FAMILY_OF, Family, Objective, ObjectiveName
from .systems import Systems
from .time_stamp import TimeStamp, named_authority
from .training import Annotations, Training

if TYPE_CHECKING:
    from .results import Results


def _not_published(name: str) -> str:
    if name.casefold() == paths.site_folder().name:
        raise ValueError("its report would take the place of the published ones: rename the file")
    return name


class Run(Part):
    """One independent run: an objective, a rung and a seed, and what it is trained on where that is not everything."""

    objective: ObjectiveName
    rung: str
    seed: int
    source: str = Field("", description="who annotated its pairs; empty: the collection, all of it")
    annotations: int = Field(0, description="how many pairs were annotated; 0: all")

    @property
    def name(self) -> str:
        """The run's name, which is also its folder's."""
        annotated = f"-{self.source}-{self.annotations}" if self.source else ""
        return f"{self.objective}-{self.rung}{annotated}-s{self.seed}"


class Study(Part):
    """A whole study: either one that trains its own ladder, or one that brings `measurements` as a CSV."""

    name: Annotated[FolderName, AfterValidator(_not_published)]
    source: Path = Field(description="the YAML file")
    title: str = ""
    measurements: Path | None = Field(None, description="a CSV to fit, relative to the YAML; then nothing is trained")
    collection: CollectionForm = "docstrings"
    docstrings: Docstrings = Docstrings()
    first_stage: FirstStage = FirstStage()
    text: Text = Text()
    family: Family = Field("cross_encoder", description="of objectives that several families have")
    architecture: Literal["bert", "modernbert"] = Field("bert", description="of encoders trained from scratch")
    bi_encoder: BiEncoderSettings = BiEncoderSettings()
    ed2lm: Ed2lmSettings = Ed2lmSettings()
    decoder: DecoderSettings = Field(DecoderSettings(), description="of rungs that are decoders")
    ladder: Ladder = Field(
        default_factory=dict,
        description="rungs by name: shapes trained from scratch, or Hugging Face ids and folders, relative to the YAML",
    )
    training: Training | None = None
    objectives: dict[ObjectiveName, Objective] = Field(default_factory=dict)
    annotations: Annotations | None = Field(None, description="runs on annotated pairs of several numbers and sources")
    evaluation: Evaluation = Evaluation()
    with_first_stage: Annotated[WithFirstStage | None, BeforeValidator(asked_for)] = Field(
        None, description="yes, or its fields: models are measured together with the first stage too"
    )
    systems: Systems = Field(default_factory=dict, description="models that exist, measured beside the ladder")
    held_out: HeldOut
    time_stamp: Annotated[TimeStamp | None, BeforeValidator(named_authority)] = Field(
        None, description="a time-stamp authority's address, or its fields: it attests when forecasts were sealed"
    )
    forecasting: Forecasting = Forecasting()
    allocation: Allocation = Allocation()

    _training = refusal("training")(checks.unmet_training)
    _evaluation = refusal("evaluation")(checks.unusable_tests)
    _ladder = refusal("ladder")(checks.mixed_ladder)
    _objectives = refusal("objectives")(checks.unmet_objectives)
    _annotations = refusal("annotations")(checks.annotations_without_retriever)
    _with_first_stage = refusal("with_first_stage")(checks.unusable_dev)
    _systems = refusal("systems")(checks.systems_without_tests)
    _held_out = refusal("held_out")(checks.too_little_left)

    def family_of(self, objective: str) -> Family:
        """Return the family whose models an objective trains."""
        return FAMILY_OF.get(objective, self.family)

    @property
    def headline_test(self) -> str | None:
        """The test that the report opens with; none for the first one."""
        return self.forecasting.headline_test

    @property
    def families(self) -> list[Family]:
        """The families that the study trains, in the order of its objectives."""
        return list(dict.fromkeys(self.family_of(objective) for objective in self.objectives))

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

    @property
    def annotation_runs(self) -> list[Run]:
        """The runs on annotated pairs: human ones of every number and rung, on the last rung every source's.

        The largest number is of human pairs alone, and held out.
        """
        if self.annotations is None:
            return []
        wanted, last = self.annotations, self.annotations.rungs[-1]
        sources = [("human", rung) for rung in wanted.rungs]
        sources += [(source, last) for source in (*wanted.sources, *wanted.files) if source != "human"]
        return [
            Run(objective="contrastive", rung=rung, seed=seed, source=source, annotations=count)
            for source, rung in sources
            for count in (wanted.counts if source == "human" else wanted.counts[:-1])
            for seed in wanted.seeds
        ]

    @property
    def fitted_annotation_runs(self) -> list[Run]:
        """The runs on annotated pairs that a fit may see: all but those on the most human pairs."""
        held_out = self.annotations and ("human", self.annotations.counts[-1])
        return [run for run in self.annotation_runs if (run.source, run.annotations) != held_out]

    @property
    def all_runs(self) -> list[Run]:
        """Every run of the study, on whatever it is trained."""
        return self.runs + self.annotation_runs

    def run(self, name: str) -> Run:
        """Return the run of that name.

        Raises:
            StudyError: the study has no such run.
        """
        runs = {run.name: run for run in self.all_runs}
        if name not in runs:
            raise StudyError(f"run {name!r} is not in study {self.name}: use one of {', '.join(runs)}.")
        return runs[name]

    def settings_of(self, run: Run) -> dict[str, Any]:
        """Return all that decides a run's weights, so that a change of anything else trains nothing again."""
        shared = {"collection", "docstrings", "first_stage", "text", "architecture", "training"}
        fields = self.model_dump(mode="json", include=shared)
        for how in ("threads", "micro_batch", "gradient_checkpointing", "gpus", "sharded"):
            fields["training"].pop(how)
        if not self.training.lora:
            fields["training"].pop("lora")
        family = self.family_of(run.objective)
        if family != "cross_encoder":
            fields[family] = getattr(self, family).model_dump(mode="json")
        if family == "bi_encoder" and run.rung not in self.pretrained:
            fields[family] = self.bi_encoder.of_new_layers
        if self.decoder != DecoderSettings():
            fields["decoder"] = self.decoder.model_dump(mode="json")
        if run.source:
            fields["training"]["exposures"] = self.annotations.exposures
            fields["annotated"] = self.annotated_by(run.source)
        return fields | {
            "run": run.name,
            "family": family,
            "rung": self.ladder[run.rung].model_dump(exclude_none=True),
            "objective": self.objectives[run.objective].model_dump(exclude={"seeds"}, exclude_none=True),
        }

    @property
    def measuring(self) -> list[dict[str, Any]]:
        """All that decides what is measured of a model."""
        asked = [self.with_first_stage.model_dump(mode="json")] if self.with_first_stage else []
        return [self.evaluation.model_dump(), *asked]

    def annotated_by(self, source: str) -> list[Any]:
        """Return all that decides a source's pairs, beside the collection."""
        counts = [self.annotations.counts[-1 if source == "human" else -2]]
        if source in self.annotations.files:
            return [*counts, digest(self.beside(self.annotations.files[source]))]
        if source == "generated":
            settings = [self.text.model_dump(), self.ed2lm.model_dump(), self.annotations.generator.model_dump()]
            return [*counts, self.training.cooldown, self.training.warmup_steps, self.training.weight_decay, *settings]
        return counts

    @property
    def pretrained(self) -> dict[str, str]:
        """The id or folder of every pretrained rung; empty for a ladder that is trained from scratch."""
        return {
            name: self.source_of(rung.pretrained) for name, rung in self.ladder.items() if isinstance(rung, Pretrained)
        }

    def source_of(self, given: str) -> str:
        """Return an id, or where a folder lies that the YAML names."""
        folder = self.beside(given)
        return str(folder) if folder.is_dir() else given

    @property
    def folder(self) -> Path:
        """Where the study's results lie."""
        return paths.study_folder(self.name)

    def results(self) -> "Results":
        """Return the tables that the study has written so far, by name."""
        from .results import Results  # here, since pandas takes longer to import than all else

        return Results(self.folder)

    @property
    def reports(self) -> Path:
        """Where the study's rendered pages lie."""
        return paths.ROOT / "reports" / self.name

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
        forms |= {"with_first_stage.dev": self.with_first_stage.dev} if self.with_first_stage else {}
        files = {self.beside(path): field for field, form in forms.items() for path in getattr(form, "files", [])}
        named = self.annotations.files if self.annotations else {}
        return files | {self.beside(path): f"annotations.files.{name}" for name, path in named.items()}

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


def run_seed(run: Run, purpose: str) -> int:
    """Return a 63-bit seed of a run for one purpose, so that runs share neither data order nor initial weights."""
    return int(digest(run.name, purpose, length=16), 16) >> 1
