"""A tiny study through the whole Snakefile: every notebook is executed, every page rendered, nothing is done twice."""

import json
import re
import shutil
import time

import pandas as pd
import pytest
import yaml

from rankscale_utils.analysis.sealing import read_sealed
from rankscale_utils.analysis.verifying import verify_zip
from tests.cluster import slurm
from tests.dictionary import undescribed
from tests.faults.finished import STUDY, kill_while_training, run, start, write

RUNS, EXPOSURES = len(STUDY["ladder"]), len(STUDY["training"]["exposures"])
CHAPTERS = {"Every study", "Studies that train", "Studies measured with the first stage"}


def test_every_stage_leaves_its_result(finished):
    runs = finished / "runs" / "tiny"
    tables = ("seals/sealed_forecasts", "seals", "backtest", "forecasts", "allocation", "speed", "fixed_lengths")
    for result in ("fits.json", *(f"{name}.csv" for name in tables)):
        assert (runs / result).stat().st_size > 0, result
    assert len(list(runs.glob("*/ledger.json"))) == RUNS
    assert len(list(runs.glob("*/*.run.gz"))) == RUNS * EXPOSURES
    assert len(pd.read_parquet(runs / "measurements.parquet")) == RUNS * EXPOSURES * 8  # metrics


def test_every_file_and_column_is_described(finished):
    assert undescribed(finished / "runs" / "tiny", CHAPTERS) == []


def test_every_notebook_was_executed_without_an_error(finished):
    executed = [*(finished / "runs" / "tiny").glob("*/*.ipynb"), *(finished / "runs" / "tiny").glob("*.ipynb")]
    assert len(executed) == RUNS * 2 + 4
    for notebook in executed:
        cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
        assert all(cell["execution_count"] for cell in cells), notebook
        assert not any(output["output_type"] == "error" for cell in cells for output in cell["outputs"]), notebook


def test_pages_need_no_network(finished):
    pages = list((finished / "reports" / "tiny").rglob("*.html"))
    assert len(pages) == 2 + 4 + 1
    for page in pages:
        text = page.read_text()
        assert not re.search(r"<script src|<link|@import", text), page
        linked = re.sub(r'<a href="https://arxiv.org/abs/[\d.]+">', "", text)  # what readers may follow
        assert "https://" not in linked.replace("http://www.w3.org", ""), page
        assert "pairs/s  " not in text, page  # no progress lines
        assert str(finished) not in text, page  # no paths of the machine


def test_the_first_page_opens_with_forecast_and_truth(finished):
    text = (finished / "reports" / "tiny" / "index.html").read_text()
    scored = pd.read_csv(finished / "runs" / "tiny" / "forecasts.csv")
    one = scored[(scored["metric"] == "nDCG@10") & (scored["kind"] == "new_run")].iloc[-1]
    assert f"forecast to reach nDCG@10 {one['forecast']:.4f}" in re.sub("<[^>]+>", "", text)  # terms are links
    assert f"{one['actual']:.4f}" in text
    for link in ("fit.html", "forecast.html", "allocate.html", "speedup.html", "train.html#listwise-w12-s0"):
        assert f'href="{link}"' in text


def test_the_page_on_speed_forecasts_within_budgets_and_counts_beside_the_clock(finished):
    text = (finished / "reports" / "tiny" / "speedup.html").read_text()
    assert "Best forecast of one new run at depth 10: within" in text
    lengths = pd.read_csv(finished / "runs" / "tiny" / "fixed_lengths.csv")
    exact = lengths[lengths["name"] == "cross-encoder"]
    assert exact[["rung", "document_tokens"]].to_numpy().tolist() == [["w12", n] for n in (64, 128, 256, 512)]
    assert lengths["repeats"].min() >= 5
    assert "10 documents of 512 tokens, " in text


def test_held_out_runs_were_trained_after_the_seal(finished):
    runs = finished / "runs" / "tiny"
    sealed = (runs / "seals" / "sealed_forecasts.csv").stat().st_mtime
    for ledger in runs.glob("*/ledger.json"):
        assert (ledger.stat().st_mtime > sealed) == ("w12" in ledger.parent.name)


def test_scored_forecasts_are_the_sealed_ones(finished):
    sealed = read_sealed(finished / "runs" / "tiny" / "seals" / "sealed_forecasts.csv")
    assert not sealed["truth_existed"].any()
    scored = pd.read_csv(finished / "runs" / "tiny" / "forecasts.csv")
    mine = sealed[sealed["law"] == "average"].reset_index(drop=True)
    pd.testing.assert_frame_equal(scored[sealed.columns], mine, check_dtype=False)
    assert scored[["forecast", "lo", "hi", "actual", "error", "coverage"]].notna().all(axis=None)
    assert (scored["lo"] <= scored["forecast"]).all()
    assert (scored["forecast"] <= scored["hi"]).all()


def test_on_other_queries_an_interval_is_wider(finished):
    sealed = read_sealed(finished / "runs" / "tiny" / "seals" / "sealed_forecasts.csv")
    mine = sealed[sealed["law"] == "average"]
    assert ((mine["query_lo"] <= mine["lo"]) & (mine["hi"] <= mine["query_hi"])).all()
    assert (mine["query_hi"] - mine["query_lo"] > mine["hi"] - mine["lo"]).any()
    assert sealed.loc[sealed["law"] != "average", "query_lo"].isna().all()


@pytest.mark.skipif(not slurm.missing(), reason="tests/cluster compares such a study with one that nothing stopped")
def test_an_interrupted_study_gives_the_numbers_of_an_uninterrupted_one(finished, tmp_path):
    write(tmp_path)
    kill_while_training(tmp_path)
    run(tmp_path)
    tables = [pd.read_parquet(place / "runs" / "tiny" / "measurements.parquet") for place in (finished, tmp_path)]
    pd.testing.assert_frame_equal(*tables)
    volatile = ["sealed_at", "sealed_sha256"]
    scored = [
        pd.read_csv(place / "runs" / "tiny" / "forecasts.csv").drop(columns=volatile) for place in (finished, tmp_path)
    ]
    pd.testing.assert_frame_equal(*scored)


def test_the_zip_of_the_study_follows_from_its_measurements(finished):
    findings = list(verify_zip(finished / "reports" / "tiny" / "tiny.zip"))
    assert [finding.sentence for finding in findings if not finding.holds] == []
    assert "before its truth was there" in findings[1].sentence


def test_a_second_run_does_no_work(root):
    results = sorted((root / "runs" / "tiny").rglob("*.ipynb"))
    before = [file.stat().st_mtime_ns for file in results]
    began = time.monotonic()
    said = run(root)
    assert time.monotonic() - began < 60
    assert said.rstrip().endswith(str(root / "reports" / "tiny" / "index.html"))
    assert [file.stat().st_mtime_ns for file in results] == before


def test_a_forecast_changed_after_sealing_is_refused(root):
    runs = root / "runs" / "tiny"
    sealed = runs / "seals" / "sealed_forecasts.csv"
    text = sealed.read_text()
    changed = text.replace("nDCG@10,w12", "nDCG@10,w17", 1)
    assert changed != text
    sealed.unlink()
    sealed.write_text(changed)
    (runs / "forecasts.csv").unlink()
    assert "changed after sealing" in run(root, status=1)


def test_measurements_of_ones_own_run_through_every_later_stage(finished, tmp_path):
    table = pd.read_parquet(finished / "runs" / "tiny" / "measurements.parquet")
    columns = ["objective", "rung", "params", "seed", "exposure", "collection", "metric", "value"]
    table = table.loc[table["metric"] == "CE9", columns].assign(note="carried along")
    pd.concat([table, table.assign(objective="mine")]).to_csv(tmp_path / "mine.csv", index=False)
    fields = {"measurements": "mine.csv", "held_out": {"rungs": ["w12"]}, "forecasting": {"draws": 100}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(fields))
    shutil.copytree(
        finished / "reports" / "tiny", tmp_path / "reports" / "mine"
    )  # as in a clone, which has old reports
    run(tmp_path, study=str(tmp_path / "mine.yaml"))
    scored = pd.read_csv(tmp_path / "runs" / "mine" / "forecasts.csv")
    assert set(scored["objective"]) == {"listwise", "mine"}
    assert "128 tokens" in (tmp_path / "reports" / "mine" / "allocate.html").read_text()


def test_a_mistake_is_one_sentence_before_any_work(tmp_path):
    write(tmp_path, trainning={}, held_out={"rungs": ["w17"]})
    process = start(tmp_path)
    said, _ = process.communicate()
    assert process.returncode == 2
    assert "did you mean training?" in said
    assert "Traceback" not in said
    assert not (tmp_path / "runs").exists()
