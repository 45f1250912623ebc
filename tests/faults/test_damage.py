"""Files of a finished study are cut, zeroed and removed, and runs killed: the same command ends as if nothing was."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from rankscale_utils.analysis.sealing import read_sealed
from rankscale_utils.machine.files import RESULTS, cached_folder, hashes_of

REPOSITORY = Path(__file__).resolve().parents[2]
STUDY = {
    "docstrings": {"packages": ["jinja2", "networkx", "tornado"]},
    "text": {"vocabulary": 512, "query_tokens": 12, "pair_tokens": 32},
    "ladder": {f"w{hidden}": {"hidden": hidden, "layers": 1} for hidden in (4, 6, 8, 12)},
    "objectives": {"listwise": {"seeds": [0], "learning_rate": {"base": 2e-3}}},
    "training": {"exposures": [240, 480, 960], "warmup_steps": 2, "groups": {"queries_per_step": 8}},
    "evaluation": {"queries": 40, "depth": 10, "metrics": ["nDCG@10"]},
    "held_out": {"rungs": ["w12"]},
    "forecasting": {"metrics": ["nDCG@10"], "draws": 100, "simulations": 10},
}
RECORDS = {"ledger.json", "fits.json", "collection.json", "ladder.json", "contract.json"}
TIMES = {"sealed_at", "sealed_sha256"}


def write(root, **changes):
    (root / "params").mkdir(exist_ok=True)
    (root / "params" / "tiny.yaml").write_text(yaml.safe_dump(STUDY | changes))


def start(root):
    environment = {name: value for name, value in os.environ.items() if name != RESULTS} | {"RANKSCALE_ROOT": str(root)}
    command = [sys.executable, "-m", "rankscale_utils.pipeline.batch", "tiny"]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def run(root, status=0):
    """Run the study; return what it said."""
    process = start(root)
    said, _ = process.communicate(timeout=600)
    assert bool(process.returncode) == bool(status), said[-3000:]
    return said


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study that was run to its end."""
    root = tmp_path_factory.mktemp("finished")
    write(root)
    run(root)
    return root


@pytest.fixture
def root(finished, tmp_path):
    """The finished study, to be damaged; every file keeps its time."""
    shutil.copytree(finished, tmp_path / "root", symlinks=True)
    folder, moved = tmp_path / "kept", tmp_path / "root"
    shutil.move(finished, folder)  # under the finished one's own path, as Snakemake knows files by their names
    shutil.move(moved, finished)
    yield finished
    shutil.rmtree(finished)
    shutil.move(folder, finished)


def sealed(root):
    """Return every seal's bytes and time."""
    files = sorted((root / "runs" / "tiny" / "seals").glob("*.csv"))
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def values(root):
    """Return the study's scored forecasts and measurements, and the hashes of its weights."""
    runs = root / "runs" / "tiny"
    scored = pd.read_csv(runs / "forecasts.csv").drop(columns=[*TIMES, "other_seals"])
    return scored, pd.read_parquet(runs / "measurements.parquet"), hashes_of_weights(runs)


def hashes_of_weights(runs):
    return {
        path.relative_to(runs).as_posix(): hashes_of(path)
        for path in sorted(runs.glob("*/exposure-*"))
        if path.is_dir()
    }


def assert_unharmed(before, after):
    for one, other in zip(before[:2], after[:2], strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert before[2] == after[2]


def halve(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def zero_second_half(file):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


def test_damage_is_refused_or_made_good_and_the_seal_stands(root):
    runs, before, seals = root / "runs" / "tiny", values(root), sealed(root)
    assert set(seals) == {"sealed_forecasts.csv"}
    halve(runs / "listwise-w4-s0" / "measurements.parquet")
    (runs / "listwise-w6-s0" / "per_query.parquet").write_bytes(b"")
    next((runs / "listwise-w8-s0").glob("*.run.gz")).unlink()
    (runs / "listwise-w6-s0" / "exposure-000000480" / "config.json").unlink()
    (runs / "listwise-w4-s0" / "exposure-000000240" / "tokenizer.json").unlink()
    (runs / "listwise-w12-s0" / "exposure-000000240" / "2_Dense" / "model.safetensors").unlink()
    zero_second_half(runs / "listwise-w8-s0" / "exposure-000000960" / "model.safetensors")
    halve(runs / "fits.json")
    (runs / "fits.npz").write_bytes(b"cut")
    halve(next((root / "cache").rglob("*.sizes.json")))
    said = run(root, status=1)
    assert "listwise-w4-s0/measurements.parquet is taken away, as one of the run's tables is damaged" in said
    assert "exposure-000000480/config.json is gone: it is trained again" in said
    assert "exposure-000000960 is damaged: model.safetensors is not what was written: run the same" in said
    assert sealed(root) == seals
    assert (runs / "4_forecast.ipynb").exists()
    assert "Traceback" not in run(root)
    assert_unharmed(before, values(root))
    assert sealed(root) == seals
    assert not read_sealed(runs / "seals" / "sealed_forecasts.csv")["truth_existed"].any()


def test_other_settings_are_sealed_beside_the_first_which_pages_show(root):
    runs, seals = root / "runs" / "tiny", sealed(root)
    write(root, forecasting=STUDY["forecasting"] | {"draws": 120})
    run(root)
    after = sealed(root)
    assert set(after) == {"sealed_forecasts.csv", "sealed_forecasts-2.csv"}
    assert after["sealed_forecasts.csv"] == seals["sealed_forecasts.csv"]
    assert read_sealed(runs / "seals" / "sealed_forecasts-2.csv")["truth_existed"].all()
    table = pd.read_csv(runs / "seals.csv")
    assert table["shown"].tolist() == [True, False]
    assert set(pd.read_csv(runs / "forecasts.csv")["sealed_sha256"]) == {table["sealed_sha256"][0]}
    for page in ("fit", "forecast", "index"):
        text = (root / "reports" / "tiny" / f"{page}.html").read_text()
        assert "Shown is sealed_forecasts.csv; beside it stand sealed_forecasts-2.csv" in text, page
        assert "after the truth was there, from other settings" in text, page


def test_a_kill_in_the_middle_of_fitting_leaves_seal_and_results(root):
    runs, before, seals = root / "runs" / "tiny", values(root), sealed(root)
    (runs / "fits.npz").unlink()
    (runs / "backtest.npz").unlink()
    (runs / "3_fit.ipynb").unlink()
    log = runs / "logs" / "3_fit.log"
    log.unlink()
    process = start(root)
    until = time.monotonic() + 120
    while not (log.exists() and log.stat().st_size) and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert (runs / "fits.json").exists()
    assert sealed(root) == seals
    run(root)
    assert_unharmed(before, values(root))
    assert sealed(root) == seals


def test_a_notebook_run_by_hand_changes_no_result_and_leaves_no_work(root, tmp_path):
    def state():
        kinds = {".csv", ".gz", ".ipynb", ".parquet", ".safetensors"}
        files = [file for file in (root / "runs" / "tiny").rglob("*") if file.suffix in kinds or file.name in RECORDS]
        return {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in files}

    before = state()
    environment = {name: value for name, value in os.environ.items() if name != RESULTS} | {"RANKSCALE_ROOT": str(root)}
    for name, parameters in (("3_fit", []), ("4_forecast", []), ("2_evaluate", ["-p", "run", "listwise-w4-s0"])):
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
    halve(tmp_path / "texts.sizes.json")
    assert (cached_folder(tmp_path / "texts", lambda folder: (folder / "a").write_text("b")) / "a").read_text() == "b"
