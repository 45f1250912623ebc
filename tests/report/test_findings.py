from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from rankscale_utils import laws
from rankscale_utils.collections import open_collection
from rankscale_utils.evaluation.evaluate import evaluate
from rankscale_utils.machine.files import read_json
from rankscale_utils.measurements.table import headline, headlines
from rankscale_utils.report import evaluate as evaluate_page
from rankscale_utils.report import fit as fit_page
from rankscale_utils.report import tables
from rankscale_utils.report import train as train_page

RUN = "listwise-w8-s0"


@pytest.fixture
def ledger(trained):
    return read_json(trained.folder / RUN / "ledger.json")


def test_a_runs_facts_are_those_of_its_ledger(ledger):
    facts = train_page.run_facts(ledger)
    assert facts["status"] == "complete"
    assert facts["rung"] == "w8, seed 0"
    assert f"{ledger['params']:,}" in facts["parameters"]
    assert f"{ledger['params_non_embedding']:,}" in facts["parameters"]
    assert train_page.run_facts(ledger | {"flops_per_pair": None})["training_FLOPs_a_pair"] == "–"


@pytest.mark.parametrize(("last", "verb"), [(0.5, "fell from"), (1.5, "did not fall")])
def test_the_sentence_on_training_follows_the_loss(ledger, last, verb):
    rows = [dict(row, loss=loss) for row, loss in zip(ledger["checkpoints"], (1.0, 0.9, last), strict=True)]
    said = train_page.loss_sentence(ledger | {"checkpoints": rows})
    assert verb in said
    assert "240 to 960 training pairs" in said
    assert f"{last:.3f}" in said


def test_a_failed_run_says_so(ledger):
    failed = {"status": "failed: the loss became nan at step 4"}
    assert "no fit uses it" in train_page.loss_sentence(ledger | failed)
    assert "before its first checkpoint" in train_page.loss_sentence(ledger | failed | {"checkpoints": []})


def test_a_run_on_annotated_pairs_says_who_annotated_them_and_where_it_ended(ledger):
    assert train_page.dev_column(ledger) == {}
    assert "own end" not in train_page.loss_sentence(ledger)
    rows = [row | {"dev": dev} for row, dev in zip(ledger["checkpoints"], (3.0, 2.5, 2.75), strict=True)]
    annotated = ledger | {"source": "inverse_cloze", "annotations": 2000, "checkpoints": rows}
    assert train_page.run_facts(annotated)["annotated_pairs"] == "2,000, inverse cloze"
    assert "Its own end is at 480 pairs" in train_page.loss_sentence(annotated)
    assert "2.5000 nats" in train_page.loss_sentence(annotated)
    assert list(train_page.dev_column(annotated)) == ["dev"]


def test_a_runs_metrics_stand_beside_their_limits(trained):
    table = evaluate(trained, trained.run(RUN), open_collection(trained), torch.device("cpu"))
    wide = evaluate_page.exposure_table(table).drop(columns="collection").set_index("metric")
    assert list(wide.columns) == ["at_240", "at_480", "at_960", "first_stage", "ceiling"]
    expected = table[(table["metric"] == "AP") & (table["exposure"] == 480)]["value"].item()
    assert wide.loc["AP", "at_480"] == expected
    assert np.isnan(wide.loc["CE9", "ceiling"])
    headings = evaluate_page.exposure_columns(table)
    assert list(headings) == ["metric", *wide.columns]
    twice = pd.concat([table, table.assign(collection="another", value=0.5)])
    assert list(evaluate_page.exposure_columns(twice)) == ["collection", *headings]
    both = evaluate_page.exposure_table(twice).set_index(["collection", "metric"])
    assert both.loc[("another", "AP"), "at_480"] == 0.5
    assert both.loc[(table["collection"].iloc[0], "AP"), "at_480"] == expected
    searched = pd.concat([table, table.assign(task="search", value=0.25)])
    assert list(evaluate_page.exposure_columns(searched)) == ["collection", *headings]
    both = evaluate_page.exposure_table(searched).set_index(["collection", "metric"])
    assert both.loc[("docstrings/test, searched", "AP"), "at_480"] == 0.25
    assert both.loc[("docstrings/test", "AP"), "at_480"] == expected
    shown = tables.styled(searched.assign(score="both").tail(1), collection="collection", metric="metric").data
    assert "docstrings/test, searched" in shown
    assert " by both" in shown


@pytest.mark.parametrize(("value", "side"), [(0.9, "above"), (0.1, "below")])
def test_the_sentence_on_evaluation_compares_with_the_first_stage(tiny_study, value, side):
    row = {
        "metric": "nDCG@10",
        "collection": "first",
        "task": "rerank",
        "score": "own",
        "exposure": 960.0,
        "value": value,
        "first_stage": 0.5,
        "ceiling": 0.95,
        "excluded": "",
    }
    others = [
        row | other | {"value": 0.2} for other in ({"collection": "second"}, {"task": "search"}, {"score": "both"})
    ]
    table = pd.DataFrame([row | {"exposure": 240.0, "value": 0.0}, row, *others])
    said = evaluate_page.last_checkpoint_sentence(tiny_study, table)
    assert f"After 960 pairs nDCG@10 is {value:.4f}, {side} the candidates' own order (0.5000)" in said
    assert "0.9500" in said
    excluded = evaluate_page.last_checkpoint_sentence(tiny_study, table.assign(excluded="constant scores"))
    assert "excluded from fits: constant scores" in excluded


def test_the_headline_is_the_studys_choice_or_the_first_metric_that_rises(new_study):
    table = pd.DataFrame({"metric": ["CE9", "nDCG@10", "AP"]})
    assert headline(new_study(), table) == "nDCG@10"
    assert headline(new_study(forecasting={"headline": "AP"}), table) == "AP"
    assert headline(new_study(forecasting={"headline": "RR@10"}), table) == "nDCG@10"
    assert headlines(new_study(), table) == ["nDCG@10", "CE9"]


def test_a_coefficient_that_no_law_has_is_absent_from_the_table_of_laws():
    ladder = pd.DataFrame({"run": list("abcd"), "params_non_embedding": [1e3, 2e3, 4e3, 8e3], "exposure": 1e4})
    fit = laws.fit(laws.size_law(rising=False), ladder.assign(value=[4.0, 3.5, 3.2, 3.0], seed=0))
    one = SimpleNamespace(labels={}, laws={"size": SimpleNamespace(fit=fit, between_sd=0.1, within_sd=0.0)})
    row = fit_page.fits_table([one]).iloc[0]
    assert row["alpha"] == fit.coefficients["alpha"]
    assert row[["B", "beta"]].isna().all()
