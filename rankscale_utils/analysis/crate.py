"""The metadata of a study's zip: RO-Crate 1.1 (https://w3id.org/ro/crate/1.1), JSON-LD of schema.org's terms."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from rankscale_utils.machine.files import hashes_of, read_json
from rankscale_utils.study.archive import MEASUREMENTS, METADATA, STUDY, TRAINED
from rankscale_utils.study.study import Study

CONTEXT = ["https://w3id.org/ro/crate/1.1/context", {"sha256": "https://schema.org/sha256"}]
LICENSE = "The study states no licence for its measurements: ask whoever gave you this. The software is Apache-2.0."
FORMATS = {".csv": "text/csv", ".json": "application/json", ".yaml": "application/yaml", ".lock": "text/plain",
           ".pem": "application/x-pem-file", ".tsr": "application/timestamp-reply"}  # fmt: skip
WHAT = {
    STUDY: "The study as it is fitted: `rankscale study` runs it from the measurements beside it",
    TRAINED: "The study that trained the models, every field written out",
    MEASUREMENTS: "Every measurement of every run, those of held-out rungs too",
    "seals/*.csv": "Forecasts as they were sealed; sealed_sha256 is over all cells",
    "seals/*.json": "The time-stamp authority that was asked about a seal, and its answer",
    "seals/*.tsr": "RFC 3161 time-stamp token over a seal's sealed_sha256",
    "seals/*.pem": "Certificates of the time-stamp authority, as the study named them",
    "seals.csv": "Every seal: what it rests on, when it was made, and whether pages show it",
    "forecasts*.csv": "Sealed forecasts beside what was measured",
    "baselines.csv": "Sealed forecasts of the baselines beside what was measured",
    "ladder.json": "Every rung's parameters and the exposures of the checkpoints",
    "collection.json": "What was trained and tested on: counts and the SHA-256 of its content",
    "contract.json": "What every test's numbers mean",
    "environment.json": "Versions of the code and of every package",
    "*.lock": "The pinned packages of the checkout",
}


def crate(study: Study, files: Mapping[str, bytes], versions: Mapping[str, Any], sealed_at: str) -> dict[str, Any]:
    """Return the metadata of files by their names in a study's zip; sealed_at: when its forecasts were sealed."""
    title = study.title or f"Scaling laws of {study.name}"
    described = [_file(name, content) for name, content in sorted(files.items())]
    parts = [{"@id": entity["@id"]} for entity in described]
    results = [part for part in parts if part["@id"].startswith(("seals/", "forecasts", "baselines"))]
    given = [part for part in parts if part["@id"] in (STUDY, MEASUREMENTS)]
    return {
        "@context": CONTEXT,
        "@graph": [
            {
                "@id": METADATA,
                "@type": "CreativeWork",
                "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
                "about": {"@id": "./"},
            },
            {
                "@id": "./",
                "@type": "Dataset",
                "name": title,
                "description": f"Measurements and sealed forecasts of the study {study.name}. `rankscale verify` "
                "refits the forecasts from the measurements and compares; `rankscale study` runs the study again.",
                "datePublished": datetime.now(UTC).date().isoformat(),
                "license": LICENSE,
                "hasPart": parts,
                "mentions": {"@id": "#forecast"},
            },
            {
                "@id": "#rankscale",
                "@type": "SoftwareApplication",
                "name": "rankscale",
                "softwareVersion": versions["rankscale"],
                "identifier": versions["commit"] or versions["rankscale"],
            },
            {
                "@id": "#forecast",
                "@type": "CreateAction",
                "name": "Forecast the held-out rungs",
                "instrument": {"@id": "#rankscale"},
                "object": given,
                "result": results,
                **({"endTime": sealed_at} if sealed_at else {}),
            },
            *described,
        ],
    }


def _file(name: str, content: bytes) -> dict[str, Any]:
    return {
        "@id": name,
        "@type": "File",
        "name": PurePosixPath(name).name,
        "description": next(what for pattern, what in WHAT.items() if fnmatch(name, pattern)),
        "encodingFormat": FORMATS[PurePosixPath(name).suffix],
        "contentSize": str(len(content)),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def unlike_crate(folder: Path) -> list[str]:
    """Return what is wrong with an unpacked zip by its own metadata, a sentence each: files that differ, lack, or came.

    Raises:
        Damaged: the metadata is no JSON.
    """
    found = {name: sha for name, sha in hashes_of(folder).items() if name != METADATA}
    graph = read_json(folder / METADATA)["@graph"] if (folder / METADATA).is_file() else []
    told = {entity["@id"]: entity.get("sha256") for entity in graph if entity.get("@type") == "File"}
    return [
        *(f"{name} is not in {METADATA}" for name in sorted(found.keys() - told)),
        *(f"{name} is missing" for name in sorted(told.keys() - found)),
        *(f"{name} is not what {METADATA} has the SHA-256 of" for name in sorted(found.keys() & told)
          if found[name] != told[name]),
    ]  # fmt: skip
