"""Files of a finished study are cut, zeroed and removed: the same command ends as if nothing was."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

from rankscale_utils.analysis.sealing import read_sealed
from rankscale_utils.machine.files import RESULTS, cached_folder
from tests.faults.finished import STUDY, contents, differences, run, seals, write

REPOSITORY = Path(__file__).resolve().parents[2]
RECORDS = {"ledger.json", "fits.json", "collection.json", "ladder.json", "contract.json"}


def halve(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def zero_second_half(file):
    content = file.read_bytes()
    times = file.stat()
    file.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a disk does


def test_damage_is_refused_or_made_good_and_the_seal_stands(root):
    runs, before, sealed = root / "runs" / "tiny", contents(root), seals(root)
    assert set(sealed) == {"sealed_forecasts.csv"}
    halve(runs / "listwise-w4-s0" / "measurements.parquet")
    (runs / "listwise-w6-s0" / "per_query.parquet").write_bytes(b"")
    next((runs / "listwise-w8-s0").glob("*.run.gz")).unlink()
    (runs / "listwise-w6-s0" / "exposure-000004800" / "config.json").unlink()
    (runs / "listwise-w4-s0" / "exposure-000002400" / "tokenizer.json").unlink()
    (runs / "listwise-w12-s0" / "exposure-000002400" / "2_Dense" / "model.safetensors").unlink()
    zero_second_half(runs / "listwise-w8-s0" / "exposure-000009600" / "model.safetensors")
    halve(runs / "fits.json")
    (runs / "fits.npz").write_bytes(b"cut")
    halve(next((root / "cache").rglob("texts-*.built.json")))
    zero_second_half(runs / "baselines.csv")
    (root / "reports" / "tiny" / "fit.html").unlink()
    said = run(root, status=1)
    assert "listwise-w4-s0/measurements.parquet is gone or not what was written: it is made again" in said
    assert "tiny/baselines.csv is gone or not what was written: it is made again" in said
    assert "tiny/fit.html is gone or not what was written: it is made again" in said
    assert "exposure-000004800/config.json is gone: it is trained again" in said
    assert "exposure-000009600 is damaged: model.safetensors is not what was written: run the same" in said
    assert seals(root) == sealed
    assert (runs / "4_forecast.ipynb").exists()
    assert "Traceback" not in run(root)
    assert differences(before, contents(root)) == []
    assert seals(root) == sealed
    assert not read_sealed(runs / "seals" / "sealed_forecasts.csv")["truth_existed"].any()


def test_other_settings_are_sealed_beside_the_first_which_pages_show(root):
    runs, sealed = root / "runs" / "tiny", seals(root)
    write(root, forecasting=STUDY["forecasting"] | {"draws": 120})
    run(root)
    after = seals(root)
    assert set(after) == {"sealed_forecasts.csv", "sealed_forecasts-2.csv"}
    assert after["sealed_forecasts.csv"] == sealed["sealed_forecasts.csv"]
    assert read_sealed(runs / "seals" / "sealed_forecasts-2.csv")["truth_existed"].all()
    table = pd.read_csv(runs / "seals.csv")
    assert table["shown"].tolist() == [True, False]
    assert set(pd.read_csv(runs / "forecasts.csv")["sealed_sha256"]) == {table["sealed_sha256"][0]}
    for page in ("fit", "forecast", "index"):
        text = (root / "reports" / "tiny" / f"{page}.html").read_text()
        assert "Shown is sealed_forecasts.csv; beside it stand sealed_forecasts-2.csv" in text, page
        assert "after the truth was there, from other settings" in text, page


def test_a_notebook_run_by_hand_changes_no_result_and_leaves_no_work(root, tmp_path):
    def state():
        kinds = {".csv", ".gz", ".ipynb", ".parquet", ".safetensors"}
        files = [file for file in (root / "runs" / "tiny").rglob("*") if file.suffix in kinds or file.name in RECORDS]
        return {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in files}

    before = state()
    environment = {name: value for name, value in os.environ.items() if name != RESULTS} | {"RANKSCALE_ROOT": str(root)}
    for name, parameters in (("3_fit", []), ("2_evaluate", ["-p", "run", "listwise-w4-s0"])):
        command = [
            sys.executable,
            "-m",
            "papermill",
            REPOSITORY / "notebooks" / f"{name}.ipynb",
            tmp_path / "out.ipynb",
        ]
        command += ["-k", "rankscale-cpu", "--no-progress-bar", "-p", "study", "tiny", *parameters]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        assert "the results in" in (tmp_path / "out.ipynb").read_text()
    assert state() == before
    said = run(root)
    assert "done" not in said, said
    assert state() == before


def test_a_cache_whose_sizes_were_cut_is_built_again(tmp_path):
    cached_folder(tmp_path / "texts", lambda folder: (folder / "a").write_text("a"))
    halve(tmp_path / "texts.built.json")
    assert (cached_folder(tmp_path / "texts", lambda folder: (folder / "a").write_text("b")) / "a").read_text() == "b"
