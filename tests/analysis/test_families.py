"""Families compared: known winners, ties, budgets that are too small, equal size, and a whole tiny study."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from rankscale_utils.analysis.families import (
    BUDGETS_COMPARED,
    COSTS,
    EQUAL_SIZE,
    best_within_cost,
    checkpoint_options,
    compare_at_equal_size,
    compare_families,
    winners,
)
from rankscale_utils.analysis.systems import compare_systems
from rankscale_utils.collections import open_collection
from rankscale_utils.errors import StudyError
from rankscale_utils.evaluation.evaluate import evaluate_run
from rankscale_utils.evaluation.speed import measure_study
from rankscale_utils.evaluation.systems import evaluate_system
from rankscale_utils.measurements.table import AS_IT_IS
from rankscale_utils.pipeline.prepare import prepare
from rankscale_utils.report import families as families_page
from rankscale_utils.report.prose import amount
from rankscale_utils.report.systems import served_finding
from rankscale_utils.training.run import train
from tests.by_hand import run_by_hand
from tests.conftest import TINY
from tests.dictionary import undescribed
from tests.models.tiny import save_t5

CPU = torch.device("cpu")
QUERIES = 80
OWN = pd.Series(np.random.default_rng(9).normal(0.3, 0.1, QUERIES), [f"q{n}" for n in range(QUERIES)])
FAMILY = {"pointwise": "cross_encoder", "contrastive": "bi_encoder", "true_false": "ed2lm"}


def measured(*runs):
    """Return measurements and per-query values of runs: (objective, rung, size, exposure, flops, gain, seed)."""
    rng, tables, values = np.random.default_rng(0), [], []
    for objective, rung, size, exposure, flops, gain, seed in runs:
        facts = {"objective": objective, "rung": rung, "seed": seed, "exposure": float(exposure),
                 "run": f"{objective}-{rung}-s{seed}", "metric": "nDCG@10", "collection": "dl19"}  # fmt: skip
        scored = OWN.to_numpy() + gain + rng.normal(0, 0.02, QUERIES)
        values.append(pd.DataFrame({"query_id": OWN.index, "value": scored}).assign(**facts))
        costs = {"params_non_embedding": float(size), "flops": float(flops), "family": FAMILY[objective]}
        tables.append(facts | costs | {"value": scored.mean()})
    return pd.DataFrame(tables), pd.concat(values, ignore_index=True)


def options(*runs):
    return checkpoint_options(*measured(*runs), OWN)


CHEAP = ("contrastive", "s", 100, 10, 1e6, 0.10, 0)
DEAR = ("pointwise", "s", 100, 10, 1e9, 0.30, 0)


def test_the_winner_of_every_budget_is_known():
    mine = options(CHEAP, ("contrastive", "l", 900, 10, 1e8, 0.15, 0), ("pointwise", "xs", 50, 10, 1e7, 0.12, 0), DEAR)
    table = winners(mine, "flops").set_index("budget")
    assert np.log10(table.index).tolist() == pytest.approx([6, 6.5, 7, 7.5, 8, 8.5, 9])
    assert table["winner"].tolist() == ["bi_encoder"] * 2 + ["cross_encoder"] * 2 + ["bi_encoder"] * 2 + [
        "cross_encoder"
    ]
    assert table["verdict"].tolist() == ["alone"] * 2 + ["wins"] * 5
    assert table["option"].iloc[[0, 4, 6]].tolist() == [
        "contrastive s, 10 pairs", "contrastive l, 10 pairs", "pointwise s, 10 pairs",
    ]  # fmt: skip
    assert table["difference"].iloc[-1] == pytest.approx(0.15, abs=0.01)
    tested = stats.ttest_rel(mine.values[3], mine.values[1])
    assert table["p"].iloc[-1] == pytest.approx(tested.pvalue)
    ends = table[["difference_lo", "difference_hi"]].iloc[-1].tolist()
    assert ends == pytest.approx(list(tested.confidence_interval(0.95)))
    gain = stats.ttest_1samp(mine.values[3] - OWN, 0).confidence_interval(0.95)
    assert table[["gain_lo", "gain_hi"]].iloc[-1].tolist() == pytest.approx(list(gain))
    known = np.sort(table["p"].dropna())
    corrected = np.maximum.accumulate(known * np.arange(len(known), 0, -1)).clip(max=1)
    assert np.sort(table["p_holm"].dropna()) == pytest.approx(corrected)
    assert table["p_holm"].isna().sum() == 2


def test_a_dearer_checkpoint_that_ranks_worse_is_no_ones_best():
    mine = options(CHEAP, ("contrastive", "s", 100, 20, 1e7, 0.02, 0), DEAR)
    best = best_within_cost(mine, "flops")
    assert set(best.loc[best["family"] == "bi_encoder", "exposure"]) == {10.0}
    assert (best["flops"] <= best["budget"]).all()


def test_equals_tie():
    mine = options(CHEAP, ("pointwise", "s", 100, 10, 1e6, 0.10, 0), ("true_false", "s", 100, 10, 2e6, 0.0, 0))
    table = winners(mine, "flops")
    assert set(table["verdict"]) == {"a tie"}
    assert ((table["difference_lo"] <= 0) & (table["difference_hi"] >= 0)).all()
    said = families_page.wins_sentences(table)
    assert len(said) == 1
    assert said[0].startswith(
        "By training FLOPs, a tie of the bi-encoder and the cross-encoder from 1 million to 2 million. Within 2 million"
    )


def test_sentences_follow_the_budgets():
    found = winners(options(CHEAP, DEAR), "flops").assign(metric="nDCG@10", collection="dl19")
    said = families_page.answer_sentence(found)
    assert said.startswith(
        "Which family ranks best, by nDCG@10 on dl19: by training FLOPs, the bi-encoder alone from 1 million to "
        "320 million, then the cross-encoder at 1 billion. The best family ranks above the candidates' own order at 7 "
        "of these 7 budgets and below it at none,"
    )
    html = families_page.winners_table(found, "flops").data
    assert html.count("<tr>") == 1 + 7
    assert "nan" not in html


def test_seeds_are_averaged_and_their_training_is_paid_once():
    mine = options(CHEAP, DEAR, (*DEAR[:5], 0.20, 1))
    row = mine.table[mine.table["family"] == "cross_encoder"].iloc[0]
    assert (row["seeds"], row["flops"]) == (2, 1e9)
    assert row["value"] == pytest.approx(OWN.mean() + 0.25, abs=0.01)
    assert row["lo"] < row["value"] < row["hi"]


@pytest.fixture
def ladders():
    """Three families whose gain grows by 0.1 from rung to rung of twice the size, ED2LM's sizes between the others."""
    runs = [("pointwise", f"w{n}", 100 * 2**n, 10, 1e6, 0.1 * n, 0) for n in range(4)]
    runs += [("true_false", f"w{n}", 100 * 2 ** (n + 0.5), 10, 1e6, 0.1 * n, 0) for n in range(3)]
    runs += [("contrastive", f"w{n}", 1e4 * 2**n, 10, 1e6, 0.1 * n, 0) for n in range(3)]
    early = [("true_false", f"w{n}", 100 * 2 ** (n + 0.5), 5, 1e6, 9.0, 0) for n in range(3)]
    return options(*runs, *early)


def test_families_are_compared_at_equal_size(ladders):
    table = compare_at_equal_size(ladders)
    assert table["rung"].tolist() == ["w1", "w2"]  # ED2LM's ladder reaches neither w0 nor w3, the bi-encoder's none
    assert set(table["family"]) == {"ed2lm"}
    assert table["difference"].tolist() == pytest.approx([-0.05, -0.05], abs=0.01)
    index = ladders.table.set_index(["family", "rung", "exposure"]).index
    columns = [index.get_loc(key) for key in (("ed2lm", "w0", 10), ("ed2lm", "w1", 10), ("cross_encoder", "w1", 10))]
    low, high, own = (ladders.values[column] for column in columns)
    tested = stats.ttest_rel((low + high) / 2, own)  # half way in log size
    assert table["p"][0] == pytest.approx(tested.pvalue)
    assert table["difference_lo"][0] == pytest.approx(tested.confidence_interval(0.95).low)
    assert table["verdict"].tolist() == ["short", "short"]


@pytest.mark.parametrize(("gain", "verdict"), [(0.0, "within"), (0.3, "within"), (-0.02, "undecided"), (-0.1, "short")])
def test_the_margin_is_held_by_the_whole_interval(gain, verdict):
    runs = [("pointwise", rung, size, 10, 1e6, 0.2, 0) for rung, size in (("w1", 100), ("w2", 200))]
    theirs = [("true_false", rung, size, 10, 1e6, 0.2 + gain, 0) for rung, size in (("w1", 100), ("w2", 200))]
    assert compare_at_equal_size(options(*runs, *theirs))["verdict"].tolist() == [verdict] * 2


def test_without_a_cross_encoder_nothing_is_compared_at_equal_size():
    mine = options(CHEAP, ("true_false", "s", 100, 10, 1e6, 0.1, 0))
    assert compare_at_equal_size(mine).empty
    assert list(compare_at_equal_size(mine).columns) == EQUAL_SIZE


def test_one_family_that_is_left_is_alone():
    table = winners(options(CHEAP, ("contrastive", "l", 900, 10, 1e8, 0.15, 0)), "flops")
    assert set(table["verdict"]) == {"alone"}
    assert table[["p", "p_holm", "difference"]].isna().all(axis=None)
    assert "alone" in families_page.wins_sentences(table)[0]


def test_training_is_drawn_for_every_family():
    axes = families_page.quality_and_training(options(CHEAP, DEAR), options(CHEAP))
    assert axes.get_xlabel() == "training FLOPs"
    names = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert names == ["bi-encoder", "cross-encoder", "bi-encoder, its own search"]


@pytest.mark.parametrize(("cost", "value", "said"), [
    ("flops", 1.24e9, "1.2 billion"), ("flops", 999e9, "1 trillion"), ("flops_per_pair", 13, "13"),
    ("p50_ms", 0.0456, "0.046"), ("p50_ms", 1234, "1,200"),
])  # fmt: skip
def test_amounts_are_written_as_prose_has_them(cost, value, said):
    assert amount(cost, value) == said


@pytest.fixture
def study(new_study, small_batch, tmp_path):
    """A study of three families beside a T5 that exists, trained, measured and timed."""
    rate = {"learning_rate": {"base": 3.0e-3}}
    study = new_study(
        "trio",
        objectives={"contrastive": rate | {"in_batch": True}, "pointwise": rate, "true_false": rate},
        training=TINY["training"] | {"exposures": [120, 240]},
        evaluation=TINY["evaluation"] | {"negatives": 100},
        systems={"theirs": {"pretrained": "monot5", "pair_tokens": 64}},
    )
    save_t5(tmp_path / "params" / "monot5", 8)
    prepare(study)
    collection = open_collection(study)
    for run in study.runs:
        train(study, run, collection, CPU)
        evaluate_run(study, run, collection, CPU)
    evaluate_system(study, "theirs", collection, CPU)
    measure_study(study, collection, CPU, queries=2, depths=(5, 10), repeats=1)
    return study


def fail(study, objective):
    """Mark every run of an objective as failed."""
    for run in study.runs:
        if run.objective == objective:
            for name in ("measurements", "per_query"):
                path = study.run_folder(run) / f"{name}.parquet"
                pd.read_parquet(path).assign(excluded="diverged").to_parquet(path)


def test_a_whole_study_is_compared(study, tmp_path):
    found = compare_families(study)
    assert found.collection == "docstrings/test"  # though the bi-encoder comes first, with its own search
    checkpoints = found.trained.table
    assert set(checkpoints["family"]) == set(study.families) == {"cross_encoder", "bi_encoder", "ed2lm"}
    assert len(checkpoints) == 3 * 4 * 2
    measured = pd.concat([pd.read_parquet(study.run_folder(run) / "measurements.parquet") for run in study.runs])
    mine = measured[(measured["metric"] == "nDCG@10") & (measured["task"] == "rerank")]
    assert checkpoints["value"].to_numpy() == pytest.approx(mine["value"].to_numpy())
    assert found.trained.first_stage.mean() == pytest.approx(mine["first_stage"].iloc[0])
    timed = pd.read_csv(study.folder / "speed.csv", keep_default_na=False).query("family != 'bm25'")
    existing = timed["objective"] == AS_IT_IS
    assert found.served.table["value"].to_numpy() == pytest.approx(timed.loc[~existing, "value"].to_numpy())
    assert found.existing.table["value"].to_numpy() == pytest.approx(timed.loc[existing, "value"].to_numpy())
    assert set(found.existing.table["option"]) == {"theirs, depth 5", "theirs, depth 10"}
    assert found.searched.values.shape == (40, 4 * 2)
    assert undescribed(study.folder, set()) == []
    written = pd.read_csv(study.folder / "families.csv")
    pd.testing.assert_frame_equal(written, found.winners, check_dtype=False)
    assert written["cost"].unique().tolist() == list(COSTS)
    assert found.winners.groupby("cost")["budget"].nunique().le(BUDGETS_COMPARED).all()
    assert families_page.answer_sentence(written).startswith(
        "Which family ranks best, by nDCG@10 on docstrings/test: by trai"
    )
    assert families_page.absent_sentences(study, found) == []
    assert "nan" not in " ".join([*families_page.wins_sentences(written), *families_page.equal_size_sentences(found)])
    panels = families_page.quality_and_serving(found.beside_existing)
    assert [axes.get_xlabel() for axes in panels] == ["serving FLOPs a pair", "median ms a query"]
    assert all("theirs" in axes.get_legend_handles_labels()[1] for axes in panels)
    lines = [[line for line in axes.texts if line.get_text() == "first stage"] for axes in panels]
    assert list(map(len, lines)) == [1, 1]  # the candidates' own order, drawn once
    beside = compare_systems(study, pd.DataFrame())
    said = served_finding(beside, found.beside_existing.table).data
    assert said.count("Train w12, or take theirs as it is?") == 3  # with each family's largest rung
    assert said.count("10 candidates take ") == 3

    assert run_by_hand("8_families", study.source, tmp_path, tmp_path) == []

    fail(study, "contrastive")
    left = compare_families(study)
    assert set(left.trained.table["family"]) == {"cross_encoder", "ed2lm"}
    assert left.searched is None
    assert families_page.absent_sentences(study, left) == [
        "No run of the bi-encoder left a usable measurement, so it is not compared."
    ]
    fail(study, "pointwise")
    fail(study, "true_false")
    with pytest.raises(StudyError, match="none of 12 runs left a usable measurement"):
        compare_families(study)
