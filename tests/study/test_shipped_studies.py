"""The studies that ship with the project."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from rankscale_utils.measurements.reading import read_measurements
from rankscale_utils.pipeline import batch
from rankscale_utils.pipeline.batch import check
from rankscale_utils.study.loading import load_study
from rankscale_utils.study.paths import CHECKOUT

STUDIES = sorted((CHECKOUT / "params").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=[path.stem for path in STUDIES])
def test_a_study_that_ships_is_valid(path, tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "visible_gpus", lambda: 1)
    if path.stem == "abstracts":  # its pairs are the user's own
        path = Path(shutil.copy(path, tmp_path))
        (tmp_path / "abstracts.jsonl").write_text('{"query": "a title", "positive": "an abstract"}\n')
    check(load_study(path))


def test_the_demo_is_what_its_readers_are_told():
    study = load_study(CHECKOUT / "params" / "demo.yaml")
    assert len(study.runs) == 24
    assert len(study.ladder) - len(study.held_out.rungs) >= 4
    assert len(study.objectives["listwise"].seeds) >= 2
    assert len(study.training.exposures) >= 6
    assert study.evaluation.queries >= 1000


def test_the_published_ladder_has_the_means_that_its_authors_print():
    table = read_measurements(load_study(CHECKOUT / "params" / "published.yaml").measurements_file)
    rows = table[(table["metric"] == "nDCG@10") & table["rung"].isin(["400m", "1b"])]
    last = rows.sort_values("step").groupby(["objective", "rung"]).tail(10)
    means = last.groupby(["objective", "rung"])["value"].mean()
    printed = pd.Series({("listwise", "400m"): 0.3633, ("listwise", "1b"): 0.3740,
                         ("pointwise", "400m"): 0.3513, ("pointwise", "1b"): 0.3576})  # fmt: skip
    assert means[printed.index].to_numpy() == pytest.approx(printed.to_numpy(), abs=2e-4)
