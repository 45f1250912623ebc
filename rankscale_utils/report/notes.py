"""What a study's first page says of its data, and where its numbers come from."""

from typing import Any

import pandas as pd

from rankscale_utils.analysis.environment import environment
from rankscale_utils.analysis.fit import SERIES_COLUMNS
from rankscale_utils.analysis.results import read_table
from rankscale_utils.machine.device import hardware
from rankscale_utils.machine.files import read_json
from rankscale_utils.measurements.table import at_chance, labelled
from rankscale_utils.study import paths
from rankscale_utils.study.study import Study

from . import references
from .nothing import remedy_sentence

LIBRARIES = ("numpy", "scipy", "pandas", "torch", "transformers")  # that numbers follow from


def data_notes(study: Study, measured: pd.DataFrame, on_tests: pd.DataFrame) -> list[str]:
    """Return what to know of the data, a sentence each; measured: all measurements; on_tests: of that analysis."""
    absent = references.absent(measured)
    of_runs = [*_of_chance(study, on_tests), *_of_exposures(study, measured)]
    return [*_left_out(study), *of_runs, *absent, *_collection_notes(study)]


def _left_out(study: Study) -> list[str]:
    """Say which series could not be fitted or forecast, why, and what to try."""
    rows = labelled(read_table(paths.left_out_file(study.folder)))
    remedies = [remedy_sentence(rows).strip()] if len(rows) and remedy_sentence(rows) else []
    return [
        *(
            f"{row['objective']}, {row['metric']} on {row['collection']}, is left out: {row['reason']}."
            for row in rows.to_dict("records")
        ),
        *remedies,
    ]


def _of_chance(study: Study, on_tests: pd.DataFrame) -> list[str]:
    """Say which fitted rungs end no better than a random order, of series that laws are fitted to."""
    if on_tests.empty:
        return []
    left_out = read_table(paths.left_out_file(study.folder))
    unfitted = set(left_out[SERIES_COLUMNS].itertuples(index=False, name=None)) if len(left_out) else set()
    rows = on_tests[at_chance(on_tests, study.forecasting.directions) & ~on_tests["rung"].isin(study.held_out.rungs)]
    rows = labelled(rows[[key not in unfitted for key in rows[SERIES_COLUMNS].itertuples(index=False, name=None)]])
    return [
        f"{row['rung']} trained {row['objective']} ends no better than a random order by {row['metric']} on "
        f"{row['collection']}, and laws are fitted to it all the same."
        for row in rows.to_dict("records")
    ]


def _of_exposures(study: Study, measured: pd.DataFrame) -> list[str]:
    """Say which held-out rungs have another exposure than the fitted ones, which have one alone."""
    said = []
    for objective, rows in measured.groupby("objective", sort=False):
        held_out = rows["rung"].isin(study.held_out.rungs)
        seen, ends = (
            rows.loc[~held_out, "exposure"].unique(),
            rows[held_out].groupby("rung", sort=False)["exposure"].max(),
        )
        said += [
            f"{rung} trained {objective} saw {exposure:,.0f} pairs, and every fitted run {seen[0]:,.0f}: no run tells "
            "what exposure does, so its interval is as wide as other ladders make it. Train a fitted rung for longer."
            for rung, exposure in ends.items()
            if len(seen) == 1 and exposure != seen[0]
        ]
    return said


def _collection_notes(study: Study) -> list[str]:
    return read_json(paths.collection_file(study.folder)).get("notes", []) if study.runs else []


def provenance(study: Study, scored: pd.DataFrame) -> dict[str, str]:
    """Return what the study's numbers rest on: seal, measurements, collection, code, environment, machine."""
    facts = {}
    if len(scored):
        seal = scored.iloc[0]
        sealed = f"{seal['sealed_at']}, {seal['clock']}"
        facts = {"sealed": f"{sealed}; SHA-256 {seal['sealed_sha256']}", "measurements": seal["data_sha256"]}
    if study.measurements is not None:
        return facts | {"source": study.measurements_file.name} | _code()
    manifest = read_json(paths.collection_file(study.folder))
    facts["collection"] = f"{manifest['collection']}: {manifest['pairs']:,} pairs, SHA-256 {manifest['sha256']}"
    facts["machine"] = ", ".join(f"{name} {value}" for name, value in hardware().items() if name != "threads")
    return facts | _code() | _packages(manifest)


def _code() -> dict[str, str]:
    """Return which code and libraries rendered the page."""
    made = environment()
    packages = {name.lower(): version for name, version in made["packages"].items()}
    named = [f"{name} {packages[name]}" for name in LIBRARIES if name in packages]
    commit = f", commit {made['commit']}" if made["commit"] else ""
    return {
        "code": f"rankscale {made['rankscale']}{commit}",
        "environment": ", ".join([f"Python {made['python']}", *named, made["platform"]]),
    }


def _packages(manifest: dict[str, Any]) -> dict[str, str]:
    """Return what the docstrings were taken from, where they are the collection."""
    packages = ", ".join(f"{name} {version}" for name, version in manifest.get("packages", {}).items())
    return {"made of": f"the docstrings of {packages}"} if packages else {}
