"""Depth from the runs' files to the page: what a held-out rung is forecast to need, and whether to rerank."""

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.analysis.depth import compare_depths
from rankscale_utils.analysis.results import read_table
from rankscale_utils.machine.files import write_parquet
from rankscale_utils.report import depth as page
from rankscale_utils.study import paths
from rankscale_utils.study.evaluation import WithFirstStage
from tests.conftest import use_root, write_tiny
from tests.report.html import records

DEPTHS, QUERIES = np.array([1, 2, 3, 5, 10, 20, 50]), 300
SIZES = {"w4": 1e3, "w6": 3e3, "w8": 9e3, "w12": 2.7e4}


def gains(size, falls):
    return (0.12 + 0.02 * np.log(size / 9e3)) * (1 - DEPTHS**-0.6) - falls * np.log(DEPTHS)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Return what writes a study whose runs gain as a law has it, its gains falling by so much with depth."""
    use_root(monkeypatch, tmp_path)
    mine = write_tiny(tmp_path)

    def write(falls):
        first = np.random.default_rng(0).uniform(0.1, 0.7, QUERIES)
        for run in mine.runs:
            noise = np.random.default_rng(len(run.rung)).normal(0, 0.05, (QUERIES, 1)) * (DEPTHS > 1)
            values = first[:, None] + gains(SIZES[run.rung], falls) + noise - noise.mean(0)
            rows = pd.DataFrame(values, [f"q{place}" for place in range(QUERIES)], DEPTHS).rename_axis("query_id")
            rows = rows.melt(var_name="depth", ignore_index=False).reset_index()
            write_parquet(
                paths.run_depths_file(mine.run_folder(run)),
                rows.assign(objective="listwise", collection="docs/test", metric="nDCG@10", rung=run.rung, excluded="",
                            params_non_embedding=SIZES[run.rung]),
            )  # fmt: skip
        return mine

    return write


def timed(rungs=SIZES):
    """Half a millisecond, and a tenth of one a candidate and factor of size."""
    return pd.DataFrame(
        [
            {"name": "cross-encoder", "objective": "listwise", "rung": rung, "depth": depth, "as_evaluated": True,
             "p50_ms": 0.5 + 0.1 * depth * place}
            for place, rung in enumerate(rungs, 1) for depth in (10, 50)
        ]
    )  # fmt: skip


@pytest.mark.parametrize(("falls", "best"), [(0.0, 50), (0.02, 10)])
def test_the_held_out_rungs_curve_and_best_depth_are_forecast_from_the_fitted_ones(study, falls, best):
    mine = study(falls)
    table = compare_depths(mine, timed())
    pd.testing.assert_frame_equal(read_table(paths.depths_file(mine.folder)), table, check_dtype=False)
    held = table[table["rung"] == "w12"]
    assert held["forecast"].to_numpy() == pytest.approx(held["value"].to_numpy(), abs=0.003)
    assert (held["forecast_lo"] < held["value"]).all()
    assert (held["value"] < held["forecast_hi"]).all()
    assert set(held["best_depth"]) == {best}
    assert held["best_depth_forecast"].iloc[0] == best
    assert held["best_depth_lo"].iloc[0] <= best <= held["best_depth_hi"].iloc[0]
    assert table[table["rung"] != "w12"]["forecast"].isna().all()
    [said] = page.depth_sentences(table)
    assert f"listwise w12 on docs/test: best reranked to depth {best} by the law" in said
    assert f"measured best at {best} of 50. At the forecast depth nDCG@10 is 0.0000 below its best." in said


def test_what_is_not_held_out_alone_decides_what_is_forecast(study):
    mine = study(0.0)
    before = compare_depths(mine, timed())
    held_out = paths.run_depths_file(mine.run_folder(mine.runs[-1]))
    rows = pd.read_parquet(held_out)
    write_parquet(held_out, rows.assign(value=rows["value"].where(rows["depth"] == 1, rows["value"] / 2)))
    after = compare_depths(mine, timed())
    assert after["forecast"].dropna().tolist() == before["forecast"].dropna().tolist()
    assert after["value"].iloc[-1] < before["value"].iloc[-1]


def test_reranking_is_worth_it_where_it_gains_on_queries_that_had_no_say_in_the_depth(study):
    table = compare_depths(study(0.0), timed())
    row = table[table["rung"] == "w12"].iloc[0]
    assert row["verdict"] == "worth it"
    assert row["worth"] == pytest.approx(gains(SIZES["w12"], 0)[-1], abs=0.002)
    [said] = page.worth_sentences(table)
    assert said.startswith(
        "Is reranking worth it? listwise on docs/test: worth it for w4, w6, w8 and w12 (w12 gains +0."
    )
    harmful = compare_depths(study(0.2), timed())
    assert set(harmful["verdict"]) == {"not worth it"}
    assert set(harmful["best_depth"]) == {1}
    assert [row["is it worth it?"] for row in records(page.depth_table(harmful))] == ["not worth it"] * 4


def test_the_best_rung_and_depth_within_a_latency(study):
    table = compare_depths(study(0.0), timed())
    w4 = table[table["rung"] == "w4"].set_index("depth")["p50_ms"]
    assert w4.to_dict() == pytest.approx({depth: 0.5 + 0.1 * depth for depth in DEPTHS})
    said = page.depth_within_sentence(table, budgets_ms=(1.0, 30.0))
    best = table[(table["p50_ms"] <= 1.0)].sort_values("value").iloc[-1]
    assert f"within 1 ms a query listwise {best['rung']} at depth {best['depth']} " in said
    assert "within 30 ms a query listwise w12 at depth 50 (20 ms)" in said
    assert page.depth_within_sentence(compare_depths(study(0.0), timed().iloc[:0])).startswith("No rung was timed")


@pytest.mark.parametrize(("less", "said"), [(0.02, "better than"), (-0.02, "no better than")])
def test_reranking_alone_is_held_against_the_tuned_fusion_where_it_was_measured(study, less, said):
    mine = study(0.0).model_copy(update={"with_first_stage": WithFirstStage()})
    for run in mine.runs:
        rows = pd.read_parquet(paths.run_depths_file(mine.run_folder(run))).query("depth == 50")
        fused = rows.assign(metric="nDCG@10 with first stage", value=rows["value"] - less, task="rerank", score="own")
        tables = [fused.assign(exposure=960), fused.assign(exposure=480, value=0.0)]  # the last one counts
        write_parquet(paths.per_query_file(mine.run_folder(run)), pd.concat(tables).assign(run=run.name))
    table = compare_depths(mine, timed())
    row = table[table["rung"] == "w12"].iloc[0]
    assert row["over_fusion"] == pytest.approx(less, abs=1e-9)
    assert row["fusion_verdict"] == ("worth it" if less > 0 else "not worth it")
    [sentence] = page.worth_sentences(table)
    assert f"Alone it is {said} the tuned interpolation with the first stage: {less:+.4f}" in sentence
