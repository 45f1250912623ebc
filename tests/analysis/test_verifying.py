"""A study's zip, packed, unpacked and refitted, whole and after somebody changed it."""

import hashlib
import io
import json
import shutil
import stat
import zipfile
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from rankscale_utils.analysis.crate import CONTEXT
from rankscale_utils.analysis.evidence import pack_study
from rankscale_utils.analysis.fit import fit_study
from rankscale_utils.analysis.forecast import score_study, seal_study
from rankscale_utils.analysis.sealing import SealBroken, make_seal, read_sealed
from rankscale_utils.analysis.time_stamps import ask_for_token
from rankscale_utils.analysis.verifying import verdict, verify_zip
from rankscale_utils.errors import StudyError
from rankscale_utils.machine import zips
from rankscale_utils.machine.zips import unpack, write_zip
from rankscale_utils.study import paths
from rankscale_utils.study.archive import MEASUREMENTS, METADATA
from rankscale_utils.study.loading import load_study
from rankscale_utils.study.time_stamp import TimeStamp
from tests.time_stamp_authority import Authority

SEAL = "seals/sealed_forecasts.csv"


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The zip of a small ladder's study, whose forecasts were sealed and scored."""
    root = tmp_path_factory.mktemp("packed")
    rows = [
        ("listwise", f"{size}m", size * 1e6, exposure, "dev", "nDCG@10", 0.5 - size**-0.5 / 2 - exposure**-0.5)
        for size in (17, 32, 68, 150)
        for exposure in (1e3, 2e3)
    ]
    columns = ["objective", "rung", "params", "exposure", "collection", "metric", "value"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "known.csv", index=False)
    fields = {"measurements": "known.csv", "held_out": {"rungs": ["150m"]}, "forecasting": {"draws": 100}}
    (root / "known.yaml").write_text(yaml.safe_dump(fields))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "ROOT", root)
        study = load_study(root / "known.yaml")
        fitted = fit_study(study)
        seal_study(study, fitted)
        score_study(study, fitted)
        yield pack_study(study)


@pytest.fixture
def files(packed):
    """The contents of the zip by name."""
    with zipfile.ZipFile(packed) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(tmp_path, files, honest_metadata=False):
    """Write changed files as a zip, perhaps with metadata that somebody made to fit."""
    if honest_metadata:
        metadata = json.loads(files[METADATA])
        others = [entity for entity in metadata["@graph"] if entity["@type"] != "File"]
        fitting = [
            {"@id": name, "@type": "File", "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
            if name != METADATA
        ]
        files = files | {METADATA: json.dumps(metadata | {"@graph": [*others, *fitting]}).encode()}
    write_zip(tmp_path / "changed.zip", files)
    return tmp_path / "changed.zip"


def broken(archive):
    return [finding.sentence for finding in verify_zip(archive) if not finding.holds]


def test_what_was_sealed_follows_from_the_measurements(packed):
    findings = list(verify_zip(packed))
    assert [finding.sentence for finding in findings if not finding.holds] == []
    sealed = [finding.sentence for finding in findings if "nDCG@10 on dev, 150m: 0.4" in finding.sentence]
    assert sealed[0].endswith("follows, as do all 13 rows.")
    assert "by its machine's own clock, which nobody attests" in findings[1].sentence
    assert verdict(findings) == "The sealed forecasts follow from the measurements."


def test_a_changed_measurement_is_found(tmp_path, files):
    remeasured(files, "17m", 0.1)
    first, *further = broken(zipped(tmp_path, files))
    assert first == f"{MEASUREMENTS} is not what {METADATA} has the SHA-256 of."
    assert further[0] == "sealed_forecasts.csv was sealed on other measurements than the zip holds."
    assert "listwise, nDCG@10 on dev, 150m: forecast of average (mean_law) is 0.4" in further[1]
    assert broken(zipped(tmp_path, files, honest_metadata=True)) == further


def test_a_changed_truth_is_found(tmp_path, files):
    remeasured(files, "150m", -0.02)
    said = broken(zipped(tmp_path, files, honest_metadata=True))
    assert said[0].startswith("forecasts.csv: actual of average (mean_law) is 0.4")
    assert "(+0.02)" in said[0]


def test_a_changed_forecast_is_found_and_by_how_much(tmp_path, files):
    value = float(read_sealed(unzipped(files, tmp_path) / SEAL)["forecast"][1])
    changed = files | {SEAL: files[SEAL].replace(repr(value).encode(), repr(value + 0.1).encode(), 1)}
    with pytest.raises(SealBroken, match="was changed after sealing"):
        list(verify_zip(zipped(tmp_path, changed, honest_metadata=True)))
    resealed(files, tmp_path, lambda sealed: sealed.assign(forecast=sealed["forecast"] + 0.1 * (sealed.index == 1)))
    said = broken(zipped(tmp_path, files, honest_metadata=True))
    assert said[0].startswith("listwise, nDCG@10 on dev, 150m: forecast of average (new_run) is 0.5")
    assert said[0].endswith("(+0.1).")


def test_another_sample_of_the_same_laws_is_no_change(tmp_path, files):
    def drawn_again(sealed):
        width = (sealed["hi"] - sealed["lo"]).fillna(0.0)
        return sealed.assign(forecast=sealed["forecast"] + 0.01 * width)

    resealed(files, tmp_path, drawn_again)
    findings = list(verify_zip(zipped(tmp_path, files, honest_metadata=True)))
    said = [finding.sentence for finding in findings if "nDCG@10 on dev, 150m: 0.4" in finding.sentence]
    assert said[0].endswith("; what single laws say may lie further apart.")
    assert " follows to 1.0% of its interval's width, as near as another sample of the laws" in said[0]
    assert "forecasts.csv: " in verdict(findings)  # which is still that of the first sample


def second(findings):
    """Return the finding on the seal, which comes before anything is computed again."""
    return next(islice(findings, 1, None))


LONG_AGO = "2020-02-02T02:02:02+00:00"


def test_a_changed_time_is_found(tmp_path, files):
    sealed_at = read_sealed(unzipped(files, tmp_path) / SEAL)["sealed_at"].iloc[0]
    changed = files | {SEAL: files[SEAL].replace(sealed_at.encode(), LONG_AGO.encode())}
    with pytest.raises(SealBroken, match="was changed after sealing"):
        list(verify_zip(zipped(tmp_path, changed, honest_metadata=True)))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_token_tells_that_somebody_sealed_anew_with_another_time(tmp_path, files):
    seal, authority = unzipped(files, tmp_path) / SEAL, Authority(tmp_path)
    with authority.serving(tmp_path) as address:
        ask_for_token(seal, read_sealed(seal)["sealed_sha256"].iloc[0], TimeStamp(authority=address))
    for file in (paths.token_file(seal), paths.stamp_file(seal)):
        files[f"seals/{file.name}"] = file.read_bytes()
    files["seals/authority.pem"] = authority.certificates.read_bytes()
    trusted = second(verify_zip(zipped(tmp_path, files, honest_metadata=True), authority.certificates))
    assert f"; {address} attests 20" in trusted.sentence
    brought = second(verify_zip(zipped(tmp_path, files, honest_metadata=True)))
    assert "by certificates that the zip itself brings" in brought.sentence
    del files["seals/authority.pem"]
    unknown = second(verify_zip(zipped(tmp_path, files, honest_metadata=True)))
    assert not unknown.holds
    assert "does not hold: openssl says certificate verify error" in unknown.sentence

    resealed(files, tmp_path, lambda sealed: sealed, LONG_AGO)
    changed = second(verify_zip(zipped(tmp_path, files, honest_metadata=True), authority.certificates))
    assert not changed.holds
    assert "does not hold: the token is over another hash" in changed.sentence
    del files["seals/sealed_forecasts.tsr"]
    without = second(verify_zip(zipped(tmp_path, files, honest_metadata=True), authority.certificates))
    assert not without.holds
    assert "is missing" in without.sentence


def remeasured(files, rung, by):
    """Change what a rung's last checkpoint measured."""
    table = pd.read_csv(io.BytesIO(files[MEASUREMENTS]))
    table.loc[table.index[table["rung"] == rung][-1], "value"] += by
    files[MEASUREMENTS] = table.to_csv(index=False).encode()


def resealed(files, tmp_path, change, sealed_at="2026-01-31T12:00:00+00:00"):
    """Change a seal and seal it again, as somebody would who knows how."""
    sealed = read_sealed(unzipped(files, tmp_path) / SEAL).drop(columns=["sealed_at", "sealed_sha256"])
    files[SEAL] = make_seal(change(sealed), sealed_at).to_csv(index=False).encode()


def unzipped(files, tmp_path) -> Path:
    folder = tmp_path / "files"
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_what_is_missing_or_came_to_it_is_named(tmp_path, files):
    lock = files.pop("baselines.csv")
    said = broken(zipped(tmp_path, files | {"more.csv": lock}))
    assert said[:2] == [f"more.csv is not in {METADATA}.", "baselines.csv is missing."]


def test_the_metadata_are_those_of_ro_crate(files):
    graph = {entity["@id"]: entity for entity in json.loads(files[METADATA])["@graph"]}
    assert json.loads(files[METADATA])["@context"] == CONTEXT
    descriptor, root = graph[METADATA], graph["./"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert root["@type"] == "Dataset"
    assert all(isinstance(root[name], str) for name in ("name", "description", "datePublished", "license"))
    assert {part["@id"] for part in root["hasPart"]} == set(files) - {METADATA}
    linked = [part["@id"] for name in ("object", "result") for part in graph["#forecast"][name]]
    assert {"study.yaml", MEASUREMENTS, SEAL} <= set(linked) <= set(graph)


def test_a_zip_is_a_study_again(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    study = load_study(packed)
    assert study.name == "known-from-zip"
    assert (study.held_out.rungs, study.forecasting.draws, study.runs) == (("150m",), 100, [])
    assert study.measurements_file.is_relative_to(tmp_path / "cache")
    assert load_study(packed).source == study.source
    (tmp_path / "text.zip").write_text("not a zip")
    with pytest.raises(StudyError, match="no whole zip"):
        load_study(tmp_path / "text.zip")
    with pytest.raises(StudyError, match="there is no such file"):
        load_study("nothing.zip")


def link(name):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("../out.csv", "the name '../out.csv' leads out of its folder"),
        ("/etc/out.csv", "leads out of its folder"),
        ("a\\..\\out.csv", "leads out of its folder"),
        ("C:out.csv", "leads out of its folder"),
        ("a/../../out.csv", "leads out of its folder"),
        (link("seals.csv"), "seals.csv is a link"),
        ("sitecustomize.py", "sitecustomize.py is none of the kinds that are only read"),
        ("fits.pickle", "none of the kinds that are only read"),
        ("STUDY.yaml", "the name STUDY.yaml stands twice"),
    ],
)
def test_nothing_leaves_its_folder_and_nothing_is_run(tmp_path, entry, said):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("study.yaml", "title: x")
        archive.writestr(entry, "x")
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    with pytest.raises(StudyError) as caught:
        unpack(tmp_path / "bad.zip", folder)
    assert said in str(caught.value)
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["a", "b", "bad.zip"]


def test_bombs_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    write_zip(tmp_path / "bomb.zip", {"zeros.csv": bytes(3 << 20)})
    monkeypatch.setattr(zips, "MOST_BYTES", 1 << 20)
    with pytest.raises(StudyError, match="unpacks to 3 MB, more than 1"):
        unpack(tmp_path / "bomb.zip", tmp_path / "folder")
    write_zip(tmp_path / "many.zip", {f"{number}.csv": b"" for number in range(1001)})
    with pytest.raises(StudyError, match="holds 1,001 files, more than 1,000"):
        unpack(tmp_path / "many.zip", tmp_path / "folder")
    lying = bytearray((tmp_path / "bomb.zip").read_bytes())
    place = lying.rindex(b"PK\x01\x02") + 24  # the size that the directory states
    lying[place : place + 4] = np.uint32(5).tobytes()
    (tmp_path / "lying.zip").write_bytes(lying)
    with pytest.raises(StudyError, match="no whole zip"):
        unpack(tmp_path / "lying.zip", tmp_path / "folder")
