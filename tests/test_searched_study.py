"""A tiny study of retrievers on a real collection with human judgments, killed while it trained, and then run again."""

import json
import re

import pandas as pd
import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.dictionary import undescribed
from tests.faults.finished import kill_while_training, run
from tests.models.tiny import save_encoder

CHAPTERS = {"Every study", "Studies that train", "Studies with systems", "Studies with annotations"}
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
    "forecasting": {"metrics": ["CE256"], "draws": 100},
    "systems": {"theirs": "theirs"},
}


def test_a_real_collection_with_human_judgments_is_searched_and_annotated(ir_datasets_home, tmp_path):
    shipped = yaml.safe_load((REPOSITORY / "params" / "nfcorpus_dense.yaml").read_text())
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "nfcorpus.yaml").write_text(yaml.safe_dump(shipped | SMALLER))
    save_encoder(tmp_path / "params" / "theirs", "bert", 16, reranker=True)
    kill_while_training(tmp_path, "nfcorpus")
    run(tmp_path, study="nfcorpus")
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
    assert undescribed(runs, CHAPTERS) == []
    text = (tmp_path / "reports" / "nfcorpus" / "index.html").read_text()
    assert "forecast to reach CE256" in re.sub("<[^>]+>", "", text)  # terms are links
    assert 'href="annotations.html"' in text
