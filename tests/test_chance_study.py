"""A real ladder that learns nothing, to its report: it is not forecast, no advice is given, and the pages say why."""

import json
import os
import random
import re
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from rankscale_utils.measurements.table import at_chance

TOPICS, PAIRS_OF_A_TOPIC = 40, 12
FIELDS = {
    "collection": {"pairs": "pairs.jsonl"},
    "text": {"vocabulary": 512, "query_tokens": 8, "pair_tokens": 24},
    "ladder": {f"w{hidden}": {"hidden": hidden, "layers": 1} for hidden in (4, 6, 8, 12)},
    "objectives": {"listwise": {"learning_rate": {"base": 2e-3}}},
    "training": {
        "exposures": [96, 192, 384],
        "warmup_steps": 2,
        "groups": {"hard": 2, "random": 0, "queries_per_step": 8, "hard_depth": 10},
    },
    "evaluation": {"queries": 60, "depth": 10, "metrics": ["nDCG@10", "RR@10"]},
    "held_out": {"rungs": ["w12"]},
    "forecasting": {"metrics": ["nDCG@10", "CE9"], "draws": 100},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A study of documents that tell nothing of which query of their topic they answer."""
    root, rng = tmp_path_factory.mktemp("chance"), random.Random(0)
    words = [
        f"{a}{b}" for a in ("ka", "lo", "mi", "nu", "pe", "ra", "so", "tu") for b in ("ba", "de", "fi", "go", "ha")
    ]
    lines = []
    for topic in words[:TOPICS]:
        for pair in range(PAIRS_OF_A_TOPIC):
            noise = " ".join(rng.choices(words, k=6))
            lines.append({"query": f"{topic} {topic}x q{pair}{topic}", "positive": f"{topic} {topic}x {noise}"})
    (root / "params").mkdir()
    (root / "params" / "pairs.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (root / "params" / "lost.yaml").write_text(yaml.safe_dump(FIELDS, sort_keys=False))
    command = [sys.executable, "-m", "rankscale_utils.pipeline.batch", "lost"]
    done = subprocess.run(command, env=os.environ | {"RANKSCALE_ROOT": str(root)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return root


def test_every_run_is_measured_beside_a_random_order_and_no_better(root):
    table = pd.read_parquet(root / "runs" / "lost" / "measurements.parquet")
    ends = table[table["exposure"] == table["exposure"].max()]
    fitted = ends[(ends["rung"] != "w12") & ends["metric"].isin(["nDCG@10", "CE9"])]
    assert len(fitted) == 3 * 2
    assert at_chance(fitted).all()
    ranked = ends[ends["metric"] == "nDCG@10"]
    assert (ranked["over_random_lo"] < ranked["value"] - ranked["random_order"]).all()
    assert ends.loc[ends["metric"] == "CE9", "random_order"].round(6).eq(2.302585).all()  # ln 10
    references = pd.read_csv(root / "runs" / "lost" / "references.csv").set_index("metric")
    assert references.loc["nDCG@10", "random_order"] == pytest.approx(ranked["random_order"].iloc[0])


def test_nothing_is_forecast_or_advised_and_every_page_says_why(root):
    runs, reports = root / "runs" / "lost", root / "reports" / "lost"
    left_out = pd.read_csv(runs / "left_out.csv").set_index("metric")
    assert set(left_out.index) == {"nDCG@10", "CE9"}
    assert left_out.loc["nDCG@10", "reason"].startswith("no fitted run's nDCG@10 is better than that of a random order")
    assert left_out.loc["CE9", "reason"] == "no fitted run's CE9 is better than that of equal scores, 2.3026"
    for name in ("index", "fit", "forecast", "allocate"):
        text = re.sub("<[^>]+>", "", (reports / f"{name}.html").read_text())
        assert "There is no forecast and no advice, as no series can be fitted." in text, name
        assert "What may help: random negatives (training.groups.random)" in text, name
    assert not (runs / "seals").exists() or not list((runs / "seals").glob("*.csv"))
    index = (reports / "index.html").read_text()
    assert index.count("no better than a random order") >= 4 - ("w12" in _better(runs))
    assert "laws are fitted to it all the same" not in index
    assert "◆ held out: no fit may see it." in index  # and was not trained after a forecast
    assert "Nothing is forecast here: no law of nDCG@10 was fitted" in (reports / "speedup.html").read_text()
    assert "random order" in (reports / "evaluate.html").read_text()


def _better(runs):
    table = pd.read_parquet(runs / "measurements.parquet")
    ends = table[(table["exposure"] == table["exposure"].max()) & (table["metric"] == "nDCG@10")]
    return set(ends.loc[~at_chance(ends), "rung"])


def test_what_would_have_been_left_out_by_design_was_said_before(root):
    rehearsed = pd.read_csv(root / "runs" / "lost" / "rehearsal.csv")["left_out"].tolist()
    assert rehearsed == [
        "the ladder's own past, and how often its intervals held: that takes four fitted rungs or more"
    ]
