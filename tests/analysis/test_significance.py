import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rankscale_utils.analysis.significance import compare_rungs
from rankscale_utils.evaluation.evaluate import evaluate_run
from rankscale_utils.measurements.per_query import per_query
from rankscale_utils.report import forecast as forecast_page

SIZES = {"small": 10, "middle": 20, "large": 40, "largest": 80}


def values(shifts, queries=60, seeds=(0,), **columns):
    """Return per-query values of the rungs, each shifted by so much from the one before it."""
    rng = np.random.default_rng(0)
    level, base = 0.3, rng.normal(0, 0.2, queries)
    tables = []
    for (rung, size), shift in zip(SIZES.items(), shifts, strict=True):
        level += shift
        for seed in seeds:
            value = level + base + rng.normal(0, 0.05, queries)
            tables.append(pd.DataFrame({"query_id": np.arange(queries).astype(str), "value": value, "rung": rung,
                "params_non_embedding": size, "seed": seed, "run": f"{rung}-{seed}"}))  # fmt: skip
    table = pd.concat(tables, ignore_index=True)
    fixed = {"metric": "nDCG@10", "collection": "dl19", "task": "rerank", "score": "own", "objective": "listwise",
             "exposure": 100, "excluded": ""}  # fmt: skip
    return table.assign(**fixed | columns)


def test_neighbouring_rungs_are_compared_query_by_query():
    table = values([0, 0.1, 0.0, 0.1])
    found = compare_rungs(table.sample(frac=1, random_state=0), "nDCG@10", "dl19")
    assert list(zip(found["smaller"], found["larger"], strict=True)) == [
        ("small", "middle"), ("middle", "large"), ("large", "largest"),
    ]  # fmt: skip
    wide = table.pivot_table(index="query_id", columns="rung", values="value")
    expected = stats.ttest_rel(wide["middle"], wide["small"])
    assert found["p"][0] == pytest.approx(expected.pvalue)
    assert found["difference"][0] == pytest.approx((wide["middle"] - wide["small"]).mean())
    lo, hi = expected.confidence_interval(0.95)
    assert (found["lo"][0], found["hi"][0]) == pytest.approx((lo, hi))
    ordered = np.sort(found["p"])
    assert np.sort(found["p_holm"]) == pytest.approx(np.maximum.accumulate(ordered * [3, 2, 1]).clip(max=1))
    assert (found["p_holm"] < 0.05).tolist() == [True, False, True]
    said = forecast_page.significance_sentence(found)
    assert said.startswith("nDCG@10: on dl19 2 of 3 steps up the ladder raise it and 0 lower it significantly")


def test_only_the_metric_the_collection_and_the_last_exposure_count():
    table = values([0, 0.1, 0.0, 0.1])
    others = ({"metric": "AP"}, {"collection": "x"}, {"exposure": 50}, {"task": "search"}, {"score": "true_false"})
    noise = [table.assign(value=0.5, **other) for other in others]
    failed = table.assign(value=9.0, excluded="constant scores", run="broken", seed=7)
    found = compare_rungs(pd.concat([*noise, table, failed]), "nDCG@10", "dl19")
    pd.testing.assert_frame_equal(found, compare_rungs(table, "nDCG@10", "dl19"))


def test_seeds_are_averaged_within_a_query():
    table = values([0, 0.1, 0.1, 0.1], seeds=(0, 1))
    mean = table.groupby(["query_id", "rung"], sort=False)["value"].mean()
    found = compare_rungs(table, "nDCG@10", "dl19")
    difference = mean.xs("middle", level="rung") - mean.xs("small", level="rung")
    assert found["p"][0] == pytest.approx(stats.ttest_1samp(difference, 0).pvalue)


def test_rungs_that_agree_on_every_query_are_not_told_apart():
    table = values([0, 0, 0, 0])
    table["value"] = table["query_id"].astype(float)
    found = compare_rungs(table, "nDCG@10", "dl19")
    assert (found["p"] == 1).all()
    assert (found["difference"] == 0).all()
    assert "0 of 3 steps up the ladder raise it and 0 lower it" in forecast_page.significance_sentence(found)


def test_a_failed_rung_leaves_the_others_comparable(trained, collection):
    import torch

    for run in trained.runs:
        evaluate_run(trained, run, collection, torch.device("cpu"))
    table = per_query(trained, trained.runs)
    found = compare_rungs(table, "nDCG@10", "docstrings/test")
    assert found["larger"].tolist() == ["w6", "w8", "w12"]
    assert found["p_holm"].between(0, 1).all()
    table.loc[table["rung"] == "w8", "excluded"] = "constant scores"
    assert compare_rungs(table, "nDCG@10", "docstrings/test")["larger"].tolist() == ["w6", "w12"]
