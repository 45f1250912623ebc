"""A finished study as one file: measurements, forecasts, seals, the study, what it was made with, and metadata."""

import json
from pathlib import Path

import yaml

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import read_parquet
from rankscale_utils.machine.zips import write_zip
from rankscale_utils.measurements.mean_of_tests import MEAN_OF_TESTS
from rankscale_utils.study import paths
from rankscale_utils.study.archive import MEASUREMENTS, METADATA, STUDY, TRAINED, all_fields, fields_with_measurements
from rankscale_utils.study.study import Study

from .crate import crate
from .environment import environment
from .results import read_table

TABLES = (paths.forecasts_file, paths.forecasts_by_law_file, paths.baselines_file, paths.seals_file)
OF_TRAINING = (paths.ladder_file, paths.collection_file, paths.contract_file)


def pack_study(study: Study) -> Path:
    """Write what a reader needs to check a study as one zip beside its report; return its path.

    Raises:
        StudyError: the study has not been finished.
    """
    needed = [paths.measurements_file(study.folder), *(file(study.folder) for file in TABLES)]
    if absent := [file.name for file in needed if not file.is_file()]:
        raise StudyError(
            f"study {study.name} has no {absent[0]} yet: run `make study STUDY={study.name}`, or outside a checkout "
            f"`rankscale study {study.name}`, first."
        )
    files, versions = _files(study), environment()
    files["environment.json"] = _json(versions)
    seals = read_table(paths.seals_file(study.folder))
    shown = seals.loc[seals["shown"].astype(bool), "sealed_at"] if len(seals) else seals
    files[METADATA] = _json(crate(study, files, versions, shown.iloc[-1] if len(shown) else ""))
    write_zip(paths.zip_file(study.reports), files)
    return paths.zip_file(study.reports)


def _files(study: Study) -> dict[str, bytes]:
    """Return the files of a study by their names in its zip, all but those about the zip itself."""
    folder = study.folder
    table = read_parquet(paths.measurements_file(folder))
    if study.forecasting.mean_of_tests:  # whose rows are made when measurements are read
        table = table[table["collection"] != MEAN_OF_TESTS]
    files = {
        MEASUREMENTS: table.to_csv(index=False).encode(),  # numbers at full precision
        STUDY: _yaml(fields_with_measurements(study)),
    }
    if study.runs:
        files[TRAINED] = _yaml(all_fields(study))
    kept = [file(folder) for file in (*TABLES, *(OF_TRAINING if study.runs else ()))]
    kept += sorted(paths.sealed_forecasts_file(folder).parent.glob("sealed_*"))
    files |= {file.relative_to(folder).as_posix(): file.read_bytes() for file in kept}
    lock = paths.shipped_folder() / "requirements.lock"
    files |= {lock.name: lock.read_bytes()} if lock.is_file() else {}
    if study.time_stamp and study.time_stamp.certificates:
        certificates = study.beside(study.time_stamp.certificates)
        name = paths.authority_file(folder).relative_to(folder).as_posix()
        files |= {name: certificates.read_bytes()} if certificates.is_file() else {}
    return files


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _yaml(fields: dict) -> bytes:
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True).encode()
