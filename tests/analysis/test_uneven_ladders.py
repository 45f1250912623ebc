"""Ladders as people really have them, from the CSV to the first page: what can be forecast is, near a known truth."""

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.analysis.allocate import allocate_study
from rankscale_utils.analysis.fit import fit_study, series_left_out
from rankscale_utils.analysis.forecast import score_study, seal_study, shown_series
from rankscale_utils.analysis.multiverse import forecast_universes
from rankscale_utils.report import allocate as allocate_page
from rankscale_utils.report.index import index_page
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study

SIZES = {"17m": 3.9e6, "32m": 1.25e7, "68m": 4.2e7, "150m": 1.1e8, "400m": 3.4e8}
EXPOSURES = (80_000, 160_000, 320_000, 640_000)
LAWS = {
    "nDCG@10": (0.45, -4.0, -3.0),
    "R@100": (0.7, -2.0, -1.5),
    "CE64": (0.8, 9.0, 12.0),
}  # y∞, A, B; exponents below
TASTE = {"listwise": 0.0, "pointwise": -0.01}
NOISE = 2e-4


def truth(metric, size, exposure):
    asymptote, A, B = LAWS[metric]
    return asymptote + A * size**-0.3 + B * exposure**-0.4


def ladder(metrics=("nDCG@10",), rungs=SIZES, exposures=EXPOSURES, seeds=1, objectives=("listwise",)):
    """Return a row for every run and exposure: a law's value and a little noise."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {"objective": objective, "rung": rung, "params": 4 * size, "params_non_embedding": size, "seed": seed,
             "exposure": exposure, "collection": "dev", "metric": metric,
             "value": truth(metric, size, exposure) + TASTE[objective] * (metric != "CE64") + rng.normal(0, NOISE)}
            for objective in objectives for metric in metrics for rung, size in rungs.items()
            for seed in range(seeds) for exposure in exposures
        ]
    )  # fmt: skip


@pytest.fixture
def forecasts(tmp_path, monkeypatch):
    """Return what takes a table from the CSV to the first page: the study and its new-run forecasts."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)

    def run(table, held_out="400m"):
        table.to_csv(tmp_path / "ladder.csv", index=False)
        (tmp_path / "mine.yaml").write_text(
            f"measurements: ladder.csv\nheld_out: {{rungs: [{held_out}]}}\nforecasting: {{draws: 100}}\n"
        )
        study = load_study(tmp_path / "mine.yaml")
        fitted = fit_study(study)
        seal_study(study, fitted)
        scored = score_study(study, fitted)
        forecast_universes(study, fitted)
        allocation = allocate_study(study)
        page = index_page(study)
        assert page["forecast_table"]
        assert all(allocate_page.isoflops(study, allocation)) or allocation.optima.empty
        return study, scored[(scored["law"] == "average") & (scored["kind"] == "new_run")].reset_index(drop=True)

    return run


def test_families_under_the_same_names_keep_their_own_prices(forecasts):
    table = ladder(objectives=("listwise", "pointwise"), seeds=2)
    a_unit = table["objective"].map({"listwise": 600.0, "pointwise": 6000.0})  # FLOPs of a pair and parameter
    table["flops"] = a_unit * table["params_non_embedding"] * table["exposure"]
    study, _ = forecasts(table)
    prices = {"listwise": 600.0, "pointwise": 6000.0}
    for name, size, exposure in (("next_runs", "N", "D"), ("allocation", "size", "exposure")):
        rows = study.results()[name]
        assert set(rows["objective"]) == set(prices)
        paid = rows["objective"].map(prices) * rows[size] * rows[exposure]
        told = rows[size].notna()
        assert rows.loc[told, "flops"].to_numpy() == pytest.approx(paid[told].to_numpy())


def near_the_truth(rows, within=0.03):
    """Whether every forecast is near the law's value, and its interval holds what was measured."""
    right = [truth(row["metric"], SIZES["400m"], EXPOSURES[-1]) for _, row in rows.iterrows()]
    right += np.array([TASTE[row["objective"]] * (row["metric"] != "CE64") for _, row in rows.iterrows()])
    assert rows["forecast"].to_numpy() == pytest.approx(right, rel=within)
    assert (rows["covered"] == 1).all()


def test_a_metric_that_the_held_out_rung_lacks_is_left_out_alone(forecasts):
    table = ladder(("nDCG@10", "CE64"), objectives=("listwise", "pointwise"))
    study, rows = forecasts(table[(table["metric"] == "nDCG@10") | (table["rung"] != "400m")])
    near_the_truth(rows)
    assert list(zip(rows["objective"], rows["metric"], strict=True)) == [
        ("listwise", "nDCG@10"),
        ("pointwise", "nDCG@10"),
    ]
    assert set(series_left_out(study)["reason"]) == {"no row of it on 400m, so there is nothing to forecast"}


def test_a_headline_metric_that_only_the_other_task_of_its_test_tells_opens_the_page(forecasts):
    searched = ladder(("CE64", "nDCG@10"), objectives=("listwise", "pointwise")).assign(task="search")
    searched.loc[searched["metric"] == "nDCG@10", "value"] = 0.0  # nothing relevant is found by any model
    reranked = ladder(objectives=("listwise", "pointwise")).assign(task="rerank")
    study, rows = forecasts(pd.concat([searched, reranked]))
    near_the_truth(rows)
    tasks = [("CE64", "search")] * 2 + [("nDCG@10", "rerank")] * 2
    assert sorted(zip(rows["metric"], rows["task"], strict=True)) == tasks
    assert set(study.results()["multiverse"]["metric"]) == {"nDCG@10"}
    page = index_page(study)
    assert (page["metric"], page["first_test"]) == ("nDCG@10", "dev")


def test_what_a_model_ranks_by_other_scores_than_its_own_stands_in_tables_alone(forecasts):
    own, other = ladder().assign(score="own"), ladder().assign(score="log_likelihood")
    study, rows = forecasts(pd.concat([other.assign(value=other["value"] - 0.1), own]))
    assert sorted(rows["score"]) == ["log_likelihood", "own"]
    near_the_truth(rows[rows["score"] == "own"])
    assert [one.score for one in shown_series(study, fit_study(study))] == ["own"]
    page = index_page(study)
    assert not any("Other objectives" in said for said in page["tiles"][0].sentences)
    assert sum("400m with the listwise objective" in sentence for sentence in page["answer"]) == 1
    assert page["forecast_table"].count("listwise") == 1
    _, alone = forecasts(other)  # where no row is by its own
    near_the_truth(alone)


def test_an_objective_that_the_held_out_rung_lacks_is_left_out_alone(forecasts):
    table = ladder(("nDCG@10", "CE64"), objectives=("listwise", "pointwise"))
    study, rows = forecasts(table[(table["objective"] == "listwise") | (table["rung"] != "400m")])
    near_the_truth(rows)
    assert set(rows["metric"]) == {"nDCG@10", "CE64"}
    assert set(series_left_out(study)["objective"]) == {"pointwise"}


def test_cells_that_were_never_measured_leave_out_what_they_leave_too_little_of(forecasts):
    table = ladder(("nDCG@10", "R@100", "CE64"))
    late = (table["metric"] == "R@100") & ~table["rung"].isin(["68m", "150m", "400m"])
    unseen = (table["metric"] == "CE64") & (table["rung"] == "400m")
    scattered = (table["metric"] == "nDCG@10") & (table["rung"] == "32m") & (table["exposure"] == EXPOSURES[1])
    study, rows = forecasts(table[~late & ~unseen & ~scattered].sample(frac=1, random_state=0))
    near_the_truth(rows)
    assert rows["metric"].tolist() == ["nDCG@10"]
    assert series_left_out(study).set_index("metric")["reason"].to_dict() == {
        "R@100": "2 fitted rungs measured: a size law needs 3",
        "CE64": "no row of it on 400m, so there is nothing to forecast",
    }


def test_two_held_out_rungs_of_one_size_are_forecast_alike(forecasts):
    rungs = {name: size for name, size in SIZES.items() if name != "400m"}
    table = ladder(rungs=rungs | {"400m-deep": SIZES["400m"], "400m-wide": SIZES["400m"]})
    _, rows = forecasts(table, "400m-deep, 400m-wide")
    near_the_truth(rows)
    assert rows["forecast"].nunique() == 1
    assert rows["actual"].nunique() == 2


def test_three_fitted_rungs_of_three_seeds_are_forecast_with_every_law(forecasts):
    rungs = {name: SIZES[name] for name in ("17m", "32m", "68m", "400m")}
    _, rows = forecasts(ladder(("nDCG@10", "CE64"), rungs, seeds=3))
    near_the_truth(rows, within=0.06)


def test_two_checkpoints_give_a_size_law_and_say_what_budgets_need(forecasts):
    study, rows = forecasts(ladder(("nDCG@10", "CE64"), exposures=EXPOSURES[-2:]))
    near_the_truth(rows)
    assert "three exposures or more" in allocate_page.NO_JOINT_LAW
    assert allocate_page.NO_JOINT_LAW in index_page(study)["answer"]


def test_fitted_rungs_of_two_sizes_are_left_out_with_their_number(forecasts):
    rungs = {"deep": SIZES["17m"], "wide": SIZES["17m"], "32m": SIZES["32m"], "400m": SIZES["400m"]}
    both = ladder(("nDCG@10",)), ladder(("R@100",), rungs)
    study, rows = forecasts(pd.concat(both))
    assert rows["metric"].tolist() == ["nDCG@10"]
    assert series_left_out(study)["reason"].tolist() == ["3 fitted rungs of 2 sizes: a size law needs 3 sizes"]


def test_a_larger_rung_that_costs_no_more_is_allocated_all_the_same(forecasts):
    table = ladder()
    per_pair = table["rung"].map({"17m": 6e8, "32m": 6e8, "68m": 5e8, "150m": 2e9, "400m": 6e9})
    study, _ = forecasts(table.assign(flops=per_pair * table["exposure"]))
    assert study.results()["allocation"]["size"].notna().any()


def test_a_small_rung_that_is_held_out_needs_no_run_before_it(forecasts):
    study, scored = forecasts(ladder(), held_out="17m")
    assert scored["actual"].notna().all()
    assert study.results()["next_runs"].empty


def test_a_held_out_rung_trained_for_longer_than_one_exposure_tells_is_named_with_the_run_that_helps(forecasts):
    table = ladder(exposures=(80_000,), seeds=2)
    table.loc[table["rung"] == "400m", "exposure"] = 320_000
    study, _ = forecasts(table)
    page = index_page(study)
    assert any("400m trained listwise saw 320,000 pairs, and every fitted run 80,000" in note for note in page["notes"])
    assert "trained on 160k pairs" in " ".join(page["tiles"][2].sentences)
