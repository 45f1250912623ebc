"""A study as one zip: where its files lie in it, and how it becomes a study again."""

from pathlib import Path
from typing import Any

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import cached_folder, digest
from rankscale_utils.machine.zips import unpack

from . import paths
from .ladder import Pretrained
from .study import Study

METADATA = "ro-crate-metadata.json"
STUDY = "study.yaml"  # brings the measurements beside it
TRAINED = "trained.yaml"  # the study that trained them, where one did
MEASUREMENTS = "measurements.csv"
AGAIN = "-from-zip"  # ends the name of a study that was unpacked, so that it stands beside the one that was packed
TOLD = {"title", "held_out", "forecasting", "allocation"}  # parts of a study that brings its measurements


def all_fields(study: Study) -> dict[str, Any]:
    """Return every field of a study with its value, those that it leaves to their defaults too, as its YAML has it."""
    fields = study.model_dump(mode="json", exclude={"name", "source"})
    if any(isinstance(rung, Pretrained) for rung in study.ladder.values()):
        del fields["architecture"]  # which pretrained rungs bring
    return fields


def fields_with_measurements(study: Study) -> dict[str, Any]:
    """Return the fields of a study like it that brings its measurements, which are `MEASUREMENTS` beside its YAML."""
    return study.model_dump(mode="json", include=TOLD) | {"measurements": MEASUREMENTS}


def unpacked_study(archive: Path) -> Path:
    """Return the YAML of the study that a zip holds, unpacked once into the cache; its name ends in `AGAIN`.

    Raises:
        StudyError: it is no such zip; see `machine.zips.unpack`.
    """
    if not archive.is_file():
        raise StudyError(f"study {str(archive)!r}: there is no such file.")
    name = f"{paths.NO_NAME.sub('-', archive.stem)}{AGAIN}.yaml"

    def build(folder: Path) -> None:
        unpack(archive, folder)
        if not (folder / STUDY).is_file():
            raise StudyError(f"{archive.name} holds no {STUDY}: give a zip that `rankscale zip` made.")
        (folder / STUDY).rename(folder / name)

    return cached_folder(paths.cache_folder() / "zips" / digest(archive, name, length=16), build) / name
