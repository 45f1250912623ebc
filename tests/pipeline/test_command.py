import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from rankscale_utils.analysis.sealing import write_seal
from rankscale_utils.pipeline.command import main
from rankscale_utils.study import paths

REPOSITORY = Path(__file__).resolve().parents[2]
CSV = REPOSITORY / "rankscale_utils" / "measurements" / "published" / "p0_measurements.csv"


def test_a_csv_is_forecast_in_one_command(tmp_path, capsys):
    out = tmp_path / "forecasts.csv"
    arguments = ["--held-out", "1b", "--metrics", "nDCG@10", "--checkpoints", "10", "--out", str(out)]
    assert main(["forecast", str(CSV), *arguments]) == 0
    said, table = capsys.readouterr().out.splitlines(), pd.read_csv(out)
    assert said[0].split()[:6] == ["objective", "collection", "metric", "rung", "forecast", "lo"]
    assert table["rung"].unique().tolist() == ["1b"]
    assert [line.split()[4] for line in said[1:]] == [f"{value:.4f}" for value in table["forecast"]]


def test_a_warning_of_a_command_is_a_sentence(tmp_path, capsys):
    file, places = tmp_path / "noise.csv", [("17m", 0.31), ("32m", 0.3), ("68m", 0.31), ("150m", 0.3), ("1b", 0.31)]
    rows = [{"objective": "listwise", "rung": rung, "value": value} for rung, value in places]
    table = pd.DataFrame(rows).assign(
        exposure=1000, collection="dev", metric="nDCG@10", params=[17e6, 32e6, 68e6, 150e6, 1e9]
    )
    table.to_csv(file, index=False)
    assert main(["forecast", str(file), "--held-out", "1b"]) == 0
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith(
        "rankscale: not predictable from these runs: nDCG@10 of listwise on dev: it rises with size by"
    )


def test_seals_are_verified_and_a_changed_one_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    forecasts = pd.DataFrame({"rung": ["1b"], "forecast": [0.36], "lo": [0.34], "hi": [0.39], "truth_existed": [False]})
    file = tmp_path / "sealed_forecasts.csv"
    write_seal(file, forecasts, "2026-01-31T12:00:00+00:00")
    assert main(["verify", str(file)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("sealed_forecasts.csv: unchanged, 1 rows sealed 2026-01-31T12:00:00+00:00, before its truth")
    file.chmod(0o644)
    file.write_text(file.read_text().replace("0.36", "0.37"))
    assert main(["verify", str(file)]) != 0
    assert "was changed after sealing" in capsys.readouterr().err


def test_what_is_no_study_is_said_in_a_sentence(capsys):
    assert main(["study", "nothing-of-that-name"]) != 0
    assert "is neither a YAML file nor one of params/" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["forecast", str(CSV)])


def test_the_wheel_carries_all_that_a_study_needs(tmp_path):
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
    ]
    subprocess.run([*command, str(REPOSITORY)], check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = "rankscale_utils/shipped"
    for folder, pattern in (("notebooks", "*.ipynb"), ("params", "*.yaml")):
        assert {f"{shipped}/{folder}/{file.name}" for file in (REPOSITORY / folder).glob(pattern)} <= names
    measurements = f"{shipped}/rankscale_utils/measurements/published/p0_measurements.csv"
    beside = {f"{shipped}/{name}" for name in ("Snakefile", "CITATION.cff", "requirements.lock")}
    assert beside | {measurements} <= names
    metadata = zipfile.ZipFile(wheel).read("rankscale-0.1.0.dist-info/METADATA").decode()
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]
    assert "Requires-Dist: numpy" in needed  # by forecasts, which torch is not
    assert 'Requires-Dist: torch==2.13.0; extra == "train"' in needed
    assert {"rankscale_utils/laws/known.json", "rankscale_utils/report/template/site.html.j2"} <= names
