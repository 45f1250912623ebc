"""A tiny study through the whole Snakefile: every notebook is executed, every page rendered, nothing is done twice."""

import json
import os
import re
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
from rankscale_utils.analysis.verifying import verify_zip
from tests.cluster import slurm
from tests.dictionary import undescribed
from tests.models.tiny import save_encoder

REPOSITORY = Path(__file__).resolve().parents[1]
TINY = {
    "docstrings": {"packages": ["scipy", "networkx"]},
    "text": {"vocabulary": 1024, "query_tokens": 12, "pair_tokens": 32},
    "ladder": {f"w{hidden}": {"hidden": hidden, "layers": 1} for hidden in (4, 6, 8, 12, 16)},
    "objectives": {"listwise": {"seeds": [0], "learning_rate": {"base": 2e-3}}},
    "training": {"exposures": [400, 800, 1600], "warmup_steps": 2, "groups": {"queries_per_step": 8}},
    "evaluation": {"queries": 60, "depth": 10, "metrics": ["nDCG@10", "RR@10"]},
    "held_out": {"rungs": ["w16"]},
    "forecasting": {"metrics": ["nDCG@10", "CE9"], "draws": 100},
    "systems": {"theirs": "theirs"},
    "with_first_stage": True,
}
CHAPTERS = {"Every study", "Studies that train", "Studies with systems", "Studies measured with the first stage"}
# What is smaller of params/nfcorpus_dense.yaml; few pairs, so that inverse cloze has as many.
SMALLER = {
    "collection": {"ir_datasets": "beir/nfcorpus/train", "queries": 300},
    "text": {"vocabulary": 1024, "query_tokens": 12, "pair_tokens": 48},
    "ladder": {f"w{hidden}": {"hidden": hidden, "layers": 1} for hidden in (4, 6, 8, 12)},
    "training": {
        "exposures": [160, 320, 640],
        "warmup_steps": 2,
        "groups": {"hard": 0, "random": 0, "queries_per_step": 16},
    },
    "annotations": {
        "counts": [250, 500, 1000, 2000],
        "rungs": ["w6"],
        "sources": ["human", "inverse_cloze"],
        "exposures": [160, 320, 640],
    },
    "evaluation": {
        "tests": {"nfcorpus": {"ir_datasets": "beir/nfcorpus/test"}},
        "depth": 20,
        "metrics": ["nDCG@10", "R@10"],
    },
    "held_out": {"rungs": ["w12"]},
    "forecasting": TINY["forecasting"] | {"metrics": ["CE256"]},
}


def batch(root, study="tiny", **options):
    environment = os.environ | {"RANKSCALE_ROOT": str(root)}
    command = [sys.executable, "-m", "rankscale_utils.pipeline.batch", study]
    return subprocess.run(command, env=environment, capture_output=True, text=True, **options)


def write(root, name, fields):
    (root / "params").mkdir(exist_ok=True)
    (root / "params" / f"{name}.yaml").write_text(yaml.safe_dump(fields))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A study that was killed while it trained, and then run again."""
    root = tmp_path_factory.mktemp("whole")
    write(root, "tiny", TINY)
    save_encoder(root / "params" / "theirs", "bert", 16, reranker=True)
    environment = os.environ | {"RANKSCALE_ROOT": str(root)}
    command = [sys.executable, "-m", "rankscale_utils.pipeline.batch", "tiny"]
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             start_new_session=True)  # fmt: skip
    deadline = time.monotonic() + 240
    while not list((root / "runs").glob("tiny/*/measurements.parquet")) and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not (root / "reports" / "tiny" / "index.html").exists()
    done = batch(root)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.rstrip().endswith(str(root / "reports" / "tiny" / "index.html"))
    return root


def test_every_stage_leaves_its_result(root):
    runs = root / "runs" / "tiny"
    tables = ("seals/sealed_forecasts", "seals", "backtest", "forecasts", "allocation", "speed", "fixed_lengths")
    for result in ("fits.json", *(f"{name}.csv" for name in tables)):
        assert (runs / result).stat().st_size > 0, result
    assert len(list(runs.glob("*/ledger.json"))) == 5
    assert len(list(runs.glob("*/*.run.gz"))) == 5 * 3
    assert len(pd.read_parquet(runs / "measurements.parquet")) == 5 * 3 * 8  # runs, exposures, metrics


def test_every_file_and_column_is_described(root):
    assert undescribed(root / "runs" / "tiny", CHAPTERS) == []


def test_every_notebook_was_executed_without_an_error(root):
    executed = [*(root / "runs" / "tiny").glob("*/*.ipynb"), *(root / "runs" / "tiny").glob("*.ipynb")]
    assert len(executed) == 5 * 2 + 4
    for notebook in executed:
        cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
        assert all(cell["execution_count"] for cell in cells), notebook
        assert not any(output["output_type"] == "error" for cell in cells for output in cell["outputs"]), notebook


def test_pages_need_no_network(root):
    pages = list((root / "reports" / "tiny").rglob("*.html"))
    assert len(pages) == 2 + 4 + 1
    for page in pages:
        text = page.read_text()
        assert not re.search(r"<script src|<link|@import", text), page
        linked = re.sub(r'<a href="https://arxiv.org/abs/[\d.]+">', "", text)  # what readers may follow
        assert "https://" not in linked.replace("http://www.w3.org", ""), page
        assert "pairs/s  " not in text, page  # no progress lines
        assert str(root) not in text, page  # no paths of the machine


def test_the_first_page_opens_with_forecast_and_truth(root):
    text = (root / "reports" / "tiny" / "index.html").read_text()
    scored = pd.read_csv(root / "runs" / "tiny" / "forecasts.csv")
    one = scored[(scored["metric"] == "nDCG@10") & (scored["kind"] == "new_run")].iloc[-1]
    assert f"forecast to reach nDCG@10 {one['forecast']:.4f}" in re.sub("<[^>]+>", "", text)  # terms are links
    assert f"{one['actual']:.4f}" in text
    for link in ("fit.html", "forecast.html", "allocate.html", "speedup.html", "train.html#listwise-w16-s0"):
        assert f'href="{link}"' in text


def test_the_page_on_speed_forecasts_within_budgets_and_counts_beside_the_clock(root):
    text = (root / "reports" / "tiny" / "speedup.html").read_text()
    assert "Best forecast of one new run at depth 10: within" in text
    lengths = pd.read_csv(root / "runs" / "tiny" / "fixed_lengths.csv")
    exact = lengths[lengths["name"] == "cross-encoder"]
    assert exact[["rung", "document_tokens"]].to_numpy().tolist() == [["w16", n] for n in (64, 128, 256, 512)]
    assert lengths["repeats"].min() >= 5
    assert "10 documents of 512 tokens, " in text


def test_held_out_runs_were_trained_after_the_seal(root):
    runs = root / "runs" / "tiny"
    sealed = (runs / "seals" / "sealed_forecasts.csv").stat().st_mtime
    for ledger in runs.glob("*/ledger.json"):
        assert (ledger.stat().st_mtime > sealed) == ("w16" in ledger.parent.name)


def test_scored_forecasts_are_the_sealed_ones(root):
    sealed = read_sealed(root / "runs" / "tiny" / "seals" / "sealed_forecasts.csv")
    assert not sealed["truth_existed"].any()
    scored = pd.read_csv(root / "runs" / "tiny" / "forecasts.csv")
    mine = sealed[sealed["law"] == "average"].reset_index(drop=True)
    pd.testing.assert_frame_equal(scored[sealed.columns], mine, check_dtype=False)
    assert scored[["forecast", "lo", "hi", "actual", "error", "coverage"]].notna().all(axis=None)
    assert (scored["lo"] <= scored["forecast"]).all()
    assert (scored["forecast"] <= scored["hi"]).all()


def test_on_other_queries_an_interval_is_wider(root):
    sealed = read_sealed(root / "runs" / "tiny" / "seals" / "sealed_forecasts.csv")
    mine = sealed[sealed["law"] == "average"]
    assert ((mine["query_lo"] <= mine["lo"]) & (mine["hi"] <= mine["query_hi"])).all()
    assert (mine["query_hi"] - mine["query_lo"] > mine["hi"] - mine["lo"]).any()
    assert sealed.loc[sealed["law"] != "average", "query_lo"].isna().all()


@pytest.mark.skipif(not slurm.missing(), reason="tests/cluster compares such a study with one that nothing stopped")
def test_an_interrupted_study_gives_the_numbers_of_an_uninterrupted_one(root, tmp_path):
    write(tmp_path, "tiny", TINY | {"systems": {}})
    (tmp_path / "cache").symlink_to(root / "cache")
    done = batch(tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    tables = [pd.read_parquet(place / "runs" / "tiny" / "measurements.parquet") for place in (root, tmp_path)]
    pd.testing.assert_frame_equal(*tables)
    volatile = ["sealed_at", "sealed_sha256"]
    scored = [
        pd.read_csv(place / "runs" / "tiny" / "forecasts.csv").drop(columns=volatile) for place in (root, tmp_path)
    ]
    pd.testing.assert_frame_equal(*scored)


def test_the_zip_of_the_study_follows_from_its_measurements(root):
    findings = list(verify_zip(root / "reports" / "tiny" / "tiny.zip"))
    assert [finding.sentence for finding in findings if not finding.holds] == []
    assert "before its truth was there" in findings[1].sentence


def test_a_second_run_does_no_work(root):
    results = sorted((root / "runs" / "tiny").rglob("*.ipynb"))
    before = [file.stat().st_mtime_ns for file in results]
    began = time.monotonic()
    assert batch(root).returncode == 0
    assert time.monotonic() - began < 60
    assert [file.stat().st_mtime_ns for file in results] == before


def test_a_forecast_changed_after_sealing_is_refused(root, tmp_path):
    runs = root / "runs" / "tiny"
    sealed = runs / "seals" / "sealed_forecasts.csv"
    kept, scored = sealed.read_bytes(), (runs / "forecasts.csv").read_bytes()
    text = sealed.read_text().replace("nDCG@10,w16", "nDCG@10,w17", 1)
    assert text.encode() != kept
    times = sealed.stat()
    try:
        sealed.unlink()
        sealed.write_text(text)
        (runs / "forecasts.csv").unlink()
        done = batch(root)
        assert done.returncode != 0
        assert "changed after sealing" in done.stderr + done.stdout
    finally:
        sealed.write_bytes(kept)
        os.utime(sealed, ns=(times.st_atime_ns, times.st_mtime_ns))
        (runs / "forecasts.csv").write_bytes(scored)


def test_measurements_of_ones_own_run_through_every_later_stage(root, tmp_path):
    table = pd.read_parquet(root / "runs" / "tiny" / "measurements.parquet")
    columns = ["objective", "rung", "params", "seed", "exposure", "collection", "metric", "value"]
    table = table.loc[table["metric"] == "CE9", columns].assign(note="carried along")
    pd.concat([table, table.assign(objective="mine")]).to_csv(tmp_path / "mine.csv", index=False)
    fields = {"measurements": "mine.csv", "held_out": {"rungs": ["w16"]}, "forecasting": {"draws": 100}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(fields))
    shutil.copytree(root / "reports" / "tiny", tmp_path / "reports" / "mine")  # as in a clone, which has old reports
    done = batch(tmp_path, str(tmp_path / "mine.yaml"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    scored = pd.read_csv(tmp_path / "runs" / "mine" / "forecasts.csv")
    assert set(scored["objective"]) == {"listwise", "mine"}
    assert "128 tokens" in (tmp_path / "reports" / "mine" / "allocate.html").read_text()


def test_a_mistake_is_one_sentence_before_any_work(tmp_path):
    write(tmp_path, "wrong", TINY | {"trainning": {}, "held_out": {"rungs": ["w17"]}})
    done = batch(tmp_path, "wrong")
    assert done.returncode == 2
    assert "did you mean training?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_real_collection_with_human_judgments_is_searched_and_annotated(ir_datasets_home, tmp_path):
    shipped = yaml.safe_load((REPOSITORY / "params" / "nfcorpus_dense.yaml").read_text())
    write(tmp_path, "nfcorpus", shipped | SMALLER)
    done = batch(tmp_path, "nfcorpus")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    runs = tmp_path / "runs" / "nfcorpus"
    assert json.loads((runs / "collection.json").read_text())["tests"]["nfcorpus"]["documents"] == 3633
    table = pd.read_parquet(runs / "contrastive-w12-s0" / "measurements.parquet")
    last = table[table["exposure"] == 640].set_index(["collection", "task", "metric"])
    searched, reranked = (last.loc["nfcorpus", task] for task in ("search", "rerank"))
    assert 0 < searched.loc["CE256", "value"] < 10
    assert searched.loc["nDCG@10", "first_stage"] == pytest.approx(0.3044, abs=5e-4)  # BM25, as everywhere here
    assert searched.loc["R@10", "ceiling"] > reranked.loc["R@10", "ceiling"]
    for source in ("human", "inverse_cloze"):
        own = pd.read_parquet(runs / f"contrastive-w6-{source}-1000-s0" / "measurements.parquet")
        assert own["annotations"].eq(1000).all()
    for scored in ("forecasts.csv", "annotations.csv"):
        assert pd.read_csv(runs / scored)["actual"].notna().all()
    assert undescribed(runs, {"Every study", "Studies that train", "Studies with annotations"}) == []
    text = (tmp_path / "reports" / "nfcorpus" / "index.html").read_text()
    assert "forecast to reach CE256" in re.sub("<[^>]+>", "", text)  # terms are links
    assert 'href="annotations.html"' in text
