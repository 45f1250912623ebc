"""Runs on annotated pairs whose laws are known, from their measurements to sealed, scored forecasts and budgets."""

import dataclasses
import os
import re
import subprocess

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.axes import Axes

from rankscale_utils import laws
from rankscale_utils.analysis import annotated_budgets
from rankscale_utils.analysis.annotated_budgets import annotation_budget, best_splits, pair_cost, spent_on_designs
from rankscale_utils.analysis.annotation_laws import (
    annotated_measurements,
    coefficients_of_laws,
    fit_annotations,
    held_out_runs,
    joint_status,
    worth_of_pairs,
)
from rankscale_utils.analysis.annotations import (
    analyse_annotations,
    score_annotations,
    seal_annotations,
    spoken_of,
)
from rankscale_utils.analysis.results import read_table
from rankscale_utils.analysis.sealing import SealBroken
from rankscale_utils.errors import Damaged, StudyError
from rankscale_utils.laws.sources import compare_exponents
from rankscale_utils.pipeline import batch
from rankscale_utils.report import annotation_figures
from rankscale_utils.report import annotations as annotations_page
from rankscale_utils.report.index import _of_annotations
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study
from tests.by_hand import run_by_hand
from tests.dictionary import undescribed

JOINT = (0.5, 2e5, 0.4, 2e4, 0.5)  # δ, A, α, B, β of human pairs
OTHERS = {"inverse_cloze": (1.5, 40.0, 0.3), "generated": (0.9, 60.0, 0.38)}  # δ, B, β on the last rung
SIZES = {"w8": 8e3, "w16": 2.4e4, "w32": 8e4}
COUNTS = [500, 1000, 2000, 4000, 8000, 16000, 32000]
NOISE = 0.005
FIELDS = {
    "family": "bi_encoder",
    "ladder": {"w4": {"hidden": 4}, "w8": {"hidden": 8}, "w16": {"hidden": 16}, "w32": {"hidden": 32},
               "w48": {"hidden": 48}},
    "objectives": {"contrastive": {"in_batch": True, "learning_rate": {"base": 3e-3}}},
    "training": {"exposures": [1280, 2560, 5120], "groups": {"hard": 0, "random": 0, "queries_per_step": 128}},
    "annotations": {"counts": COUNTS, "rungs": list(SIZES), "sources": ["human", *OTHERS], "seeds": [0, 1],
                    "exposures": [10000, 100000, 1000000]},
    "held_out": {"rungs": ["w48"]},
    "forecasting": {"draws": 100, "simulations": 10},
}  # fmt: skip


def true_value(run):
    if run.source == "human":
        return laws.kaplan_law(False).predict(JOINT, SIZES[run.rung], run.annotations)[0]
    return laws.data_law(False).predict(OTHERS[run.source], D=run.annotations)[0]


def write_measurements(study, runs, rng):
    """Write what `evaluate_run` leaves of each run: its entropy and a rising metric, on two collections."""
    for run in runs:
        exposure = 2000 + 10 * run.annotations
        columns = {"study": study.name, "run": run.name, "family": "bi_encoder", "objective": run.objective,
                   "rung": run.rung, "seed": run.seed, "source": run.source, "annotations": run.annotations,
                   "params": 3 * SIZES[run.rung], "params_non_embedding": SIZES[run.rung],
                   "flops_per_pair": 100 * SIZES[run.rung], "exposure": exposure, "queries": exposure,
                   "tokens": 40 * exposure, "flops": 100.0 * SIZES[run.rung] * exposure, "excluded": "",
                   "ceiling": 0.9, "first_stage": 0.5}  # fmt: skip
        value = true_value(run) + rng.normal(0, NOISE)
        rows = [{"collection": "c", "task": "search", "metric": "CE256", "value": value, **columns, "ceiling": np.nan},
                {"collection": "c", "task": "search", "metric": "nDCG@10", "value": 0.4, **columns},
                {"collection": "d", "task": "search", "metric": "CE256", "value": 9.0, **columns}]  # fmt: skip
        study.run_folder(run).mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_parquet(study.run_folder(run) / "measurements.parquet")


def new_study(root, fields=FIELDS, **annotated):
    changed = fields | {"annotations": fields["annotations"] | annotated}
    (root / "pairs.yaml").write_text(yaml.safe_dump(changed))
    return load_study(root / "pairs.yaml")


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study whose fitted runs have been evaluated, the held-out ones not."""
    monkeypatch.setattr("rankscale_utils.study.paths.ROOT", tmp_path)
    study = new_study(tmp_path)
    write_measurements(study, study.fitted_annotation_runs, np.random.default_rng(0))
    return study


@pytest.fixture
def found(study):
    return fit_annotations(study)


def open_held_out(study):
    write_measurements(study, held_out_runs(study), np.random.default_rng(1))


def allocated(study, **changes):
    return study.model_copy(update={"allocation": study.allocation.model_copy(update=changes)})


def test_the_headline_entropy_of_runs_that_did_not_fail_is_read(study):
    run = study.fitted_annotation_runs[0]
    file = study.run_folder(run) / "measurements.parquet"
    pd.read_parquet(file).assign(excluded="constant scores").to_parquet(file)
    table = annotated_measurements(study, study.fitted_annotation_runs)
    assert set(table["metric"]) == {"CE256"}
    assert set(zip(table["collection"], table["task"], strict=True)) == {("c", "search")}
    assert len(table) == len(study.fitted_annotation_runs) - 1
    assert run.name not in set(table["run"])
    assert (table["D"] == table["annotations"]).all()
    assert (table["N"] == table["params_non_embedding"]).all()


def test_held_out_files_are_not_opened_before_scoring(study):
    for run in held_out_runs(study):
        study.run_folder(run).mkdir(parents=True)
        (study.run_folder(run) / "measurements.parquet").write_text("no table")
    found = fit_annotations(study)
    assert found.human["D"].max() == COUNTS[-2]
    sealed = seal_annotations(study)
    assert sealed["truth_existed"].all()
    with pytest.raises(Damaged, match=r"measurements\.parquet is damaged"):
        score_annotations(study, found)


def test_known_laws_are_recovered(found):
    assert list(found.sources) == ["human", *OTHERS]
    assert list(found.rungs) == list(SIZES)
    predicted = found.joint.fit.predict(SIZES["w32"], 32000)[0]
    assert predicted == pytest.approx(laws.kaplan_law(False).predict(JOINT, SIZES["w32"], 32000)[0], abs=0.02)
    for source, truth in OTHERS.items():
        fitted = found.sources[source].fit
        assert fitted.status == "converged"
        assert fitted.predict(D=3000)[0] == pytest.approx(laws.data_law(False).predict(truth, D=3000)[0], abs=0.02)


def test_the_sealed_forecasts_hold(study, found):
    sealed = seal_annotations(study)
    assert len(sealed) == len(SIZES) * 2 * 2  # rungs, laws, kinds
    assert (sealed["annotations"] == COUNTS[-1]).all()
    assert sealed["coverage"].between(0.5, 1).all()
    open_held_out(study)
    scored = score_annotations(study, found)
    new = spoken_of(scored)
    assert set(new["law"]) == {"Kaplan"}
    assert new["error"].abs().max() < 0.03
    assert new["hit"].astype(bool).mean() > 0.6
    assert (new["skill"] > 0).all()
    assert {"forecast", "lo", "hi", "actual", "hit", "error"} <= set(scored)
    smaller = found.human[(found.human["rung"] == "w8") & (found.human["D"] == COUNTS[-2])]
    unchanged = scored[scored["rung"] == "w8"]["persistence"]
    assert unchanged.to_numpy() == pytest.approx(smaller["value"].mean())


def test_a_seal_on_other_measurements_is_refused(study, found):
    seal_annotations(study)
    open_held_out(study)
    file = study.run_folder(study.fitted_annotation_runs[0]) / "measurements.parquet"
    table = pd.read_parquet(file)
    table.assign(value=table["value"] + 1e-6).to_parquet(file)
    with pytest.raises(SealBroken, match="sealed on other measurements"):
        score_annotations(study, fit_annotations(study))
    text = paths.sealed_annotations_file(study.folder).read_text()
    paths.sealed_annotations_file(study.folder).unlink()
    paths.sealed_annotations_file(study.folder).write_text(text.replace("w8", "w9", 1))
    with pytest.raises(SealBroken, match="changed after sealing"):
        score_annotations(study, found)


def test_a_seal_says_whether_the_truth_was_there_already(study):
    folder = study.run_folder(held_out_runs(study)[0])
    folder.mkdir()
    (folder / "ledger.json").write_text("{}")
    assert seal_annotations(study)["truth_existed"].all()


def test_human_pairs_on_one_rung_have_no_joint_law(study):
    alone = new_study(study.source.parent, rungs=["w16"], sources=["human"])
    found = fit_annotations(alone)
    assert found.joint is None
    assert "one rung alone" in annotations_page.joint_sentence(found)
    assert best_splits(alone, found).empty
    assert "No budget can be divided" in annotations_page.life_prices_sentence(alone, found)
    assert annotations_page.money_sentence(alone, found, pd.DataFrame()) == []
    assert annotations_page.worth_sentence(worth_of_pairs(alone, found)) == [annotations_page.ALONE]
    assert annotations_page.steeper_sentence(compare_exponents(found.sources)) == [annotations_page.ALONE]
    assert annotations_page.joint_table(coefficients_of_laws(alone, found)).data == ""
    assert annotations_page.worth_table(pd.DataFrame()).data == annotations_page.split_table(pd.DataFrame()).data == ""
    empty = pd.DataFrame()
    assert annotation_figures.best_split_figure(alone, empty) == annotation_figures.budget_parts(empty) == []
    seal_annotations(alone)
    open_held_out(alone)
    scored = analyse_annotations(alone).scored
    assert set(spoken_of(scored)["law"]) == {"data"}
    assert _of_annotations(alone) == annotations_page.annotations_forecast_sentence(scored)[-2:]


def test_two_rungs_are_fitted_and_doubted(study):
    found = fit_annotations(new_study(study.source.parent, rungs=["w8", "w16"], sources=["human"]))
    assert joint_status(found).startswith("unidentified: 2 distinct sizes")
    assert "three annotations.rungs" in annotations_page.joint_sentence(found)


def test_worth_is_told_at_what_human_pairs_reach(study, found):
    table = worth_of_pairs(study, found)
    assert set(table["source"]) == set(OTHERS)
    assert table.groupby("source")["quality"].nunique().eq(len(COUNTS) - 1).all()
    row = table[(table["source"] == "generated") & (table["reference_pairs"].round() == 2000)].iloc[0]
    human = laws.kaplan_law(False).predict(JOINT, SIZES["w32"], 2000)[0]
    asymptote, B, beta = OTHERS["generated"]
    expected = (B / (human - asymptote)) ** (1 / beta) / 2000
    assert row["worth"] == pytest.approx(expected, rel=0.25)
    assert row["lo"] < row["worth"] < row["hi"]
    assert row["beyond"] == pytest.approx(row["pairs"] / COUNTS[-2])  # the most that other sources have
    told = " ".join(annotations_page.worth_sentence(table))
    assert "one human pair is worth" in told
    assert "inverse_cloze" not in told
    never = table.iloc[[0]].assign(worth=np.nan, reached=0.0)
    assert re.match(
        "No number of inverse cloze pairs reaches .*: their law levels off above.$",
        annotations_page.worth_sentence(never)[0],
    )
    assert "though 40% of the resampled laws get there" in annotations_page.worth_sentence(never.assign(reached=0.4))[0]


def test_a_law_that_cannot_be_believed_is_said_beside_its_numbers(study, found):
    human = found.sources["human"]
    doubted = dataclasses.replace(human, fit=dataclasses.replace(human.fit, status="at a bound: beta"))
    table = worth_of_pairs(study, dataclasses.replace(found, sources=found.sources | {"human": doubted}))
    assert set(table["law"]) == {"at a bound: beta"}
    assert all("ne of the laws is at a bound: beta." in one for one in annotations_page.worth_sentence(table))
    assert "Whether inverse cloze pairs can reach" in annotations_page.worth_sentence(table.assign(worth=np.nan))[0]
    vague = table.assign(law="converged", worth=2.0, lo=0.001, hi=4000.0)
    assert "hardly tell this number" in annotations_page.worth_sentence(vague)[0]


def test_steepness_has_a_verdict_only_where_laws_allow_it(found):
    table = compare_exponents(found.sources)
    assert table["source"].tolist() == list(OTHERS)
    row = table.iloc[0].to_dict()
    kinds = [(0.1, 0.2, "steeper"), (-0.2, -0.1, "flatter"), (-0.1, 0.1, "undecided"), (0.1, 0.2, "at a bound: beta")]
    told = annotations_page.steeper_sentence(
        pd.DataFrame([row | {"lo": lo, "hi": hi, "verdict": verdict} for lo, hi, verdict in kinds])
    )
    for sentence, word in zip(told, ("is steeper", "is flatter", "neither", "no verdict"), strict=True):
        assert word in sentence
    doubted = dataclasses.replace(found.sources["generated"].fit, status="unidentified: few")
    sources = found.sources | {"generated": dataclasses.replace(found.sources["generated"], fit=doubted)}
    assert compare_exponents(sources)["verdict"].tolist()[1] == "unidentified: few"
    with pytest.raises(ValueError, match="reference 'people' is not a source"):
        compare_exponents(found.sources, reference="people")


def test_own_ends_say_how_many_pairs_training_sees(study, found):
    life = annotated_budgets.life(study, found)
    assert (life.fixed_exposure, life.epochs) == pytest.approx((2000, 10))
    assert life.texts == study.allocation.queries + study.allocation.documents
    cost = pair_cost(found)
    assert cost.flops_per_unit(SIZES["w16"]) == pytest.approx(100 * SIZES["w16"])
    assert "longer training" not in annotations_page.ends_sentence(study, found)
    late = dataclasses.replace(found, table=found.table.assign(exposure=1000000 // 128 * 128))
    assert f"{len(found.table)} of them, on 500 to 16,000 annotated pairs, were best" in annotations_page.ends_sentence(
        study, late
    )


def test_budgets_reach_from_the_cheapest_run_to_a_hundred_times_the_dearest(study, found):
    table = best_splits(study, found)
    costs = spent_on_designs(study, found)
    assert table["budget"].min() == pytest.approx(costs.min())
    assert table["budget"].max() == pytest.approx(100 * costs.max())
    parts = table[["annotation_dollars", "training_dollars", "inference_dollars"]]
    assert parts.sum(axis=1).to_numpy() == pytest.approx(table["budget"].to_numpy())
    wide = table.pivot(index="budget", columns="inference", values="size")
    assert (wide[True] <= wide[False]).all()
    assert (table["size_lo"] <= table["size"]).all()
    assert annotation_budget(study, found) == pytest.approx(10 * costs.max())
    first, second, third = annotations_page.money_sentence(study, found, table)
    assert "are best spent on" in first
    assert "goes into annotation" in second
    assert "Were inference free" in third
    assert "$0.6 a pair" in annotations_page.life_prices_sentence(study, found)
    assert "10 times the dearest run's cost" in annotations_page.life_prices_sentence(study, found)


def test_the_studys_own_budget_is_used_or_refused(study, found):
    own = allocated(study, budget=1e5)
    assert 1e5 in set(best_splits(own, found)["budget"])
    assert "as the study sets it" in annotations_page.life_prices_sentence(own, found)
    with pytest.raises(StudyError, match=r"allocation.budget = 1: the cheapest measured run costs \$\S+ .*: raise it"):
        best_splits(allocated(study, budget=1.0), found)


@pytest.mark.parametrize(("field", "value"), [("annotation_price", 0), ("documents", -1)])
def test_impossible_prices_are_one_sentence(study, field, value):
    with pytest.raises(StudyError, match=f"allocation.{field}"):
        new_study(study.source.parent, FIELDS | {"allocation": {field: value}})


def test_missing_and_failed_runs_are_one_sentence(study):
    runs = study.fitted_annotation_runs
    human = [run for run in runs if run.source == "human" and run.rung == "w32"]
    for run in human:
        file = study.run_folder(run) / "measurements.parquet"
        pd.read_parquet(file).assign(excluded="constant scores").to_parquet(file)
    with pytest.raises(StudyError, match="no run on human pairs of w32 left a measurement"):
        fit_annotations(study)
    with pytest.raises(StudyError, match=f"none of {len(human)} runs on annotated pairs left a usable CE256"):
        annotated_measurements(study, human)
    (study.run_folder(runs[0]) / "measurements.parquet").unlink()
    with pytest.raises(StudyError, match=f"run {runs[0].name} has not been evaluated"):
        fit_annotations(study)


def test_the_notebook_runs_by_hand_and_writes_nothing(study, found, tmp_path):
    seal_annotations(study)
    open_held_out(study)
    assert run_by_hand("7_annotations", study.source, tmp_path, tmp_path) == []


def test_sentences_and_tables_follow_the_forecasts(study, found):
    seal_annotations(study)
    open_held_out(study)
    scored = score_annotations(study, found)
    told = annotations_page.annotations_forecast_sentence(scored)
    assert len(told) == len(SIZES) + 1
    first = spoken_of(scored).iloc[0]
    assert f"forecast to reach CE256 {first['forecast']:.4f}" in told[0]
    assert f"reached {first['actual']:.4f}" in told[0]
    assert (
        "The law behind these forecasts is at a bound"
        in annotations_page.annotations_forecast_sentence(scored.assign(status="at a bound: A"))[-1]
    )
    failed = scored.assign(actual=np.where(scored["rung"] == "w8", np.nan, scored["actual"]))
    assert "it failed." in annotations_page.annotations_forecast_sentence(failed)[0]
    assert annotations_page.forecast_table(scored).data.count("<tr>") == 1 + 2 * len(SIZES)
    coefficients = coefficients_of_laws(study, found)
    assert "β" in annotations_page.coefficient_table(coefficients, by="source").data
    assert "α" in annotations_page.joint_table(coefficients).data
    assert "inverse cloze" in annotations_page.worth_table(worth_of_pairs(study, found)).data
    assert "counted" in annotations_page.split_table(best_splits(study, found)).data


def test_every_result_is_a_table_and_every_figure_draws(study):
    seal_annotations(study)
    open_held_out(study)
    results = analyse_annotations(study)
    for name, file in paths.ANNOTATION_FILES.items():
        table = getattr(results, name)
        assert len(table), name
        pd.testing.assert_frame_equal(read_table(file(study.folder)), table, check_exact=True, check_dtype=False)
    said = undescribed(study.folder, set())
    assert [sentence for sentence in said if not sentence.startswith("RUN/")] == []  # this test wrote the runs' files
    assert results.coefficients.groupby("by")["name"].nunique().to_dict() == {"joint": 1, "rung": 3, "source": 3}
    assert results.exponents["source"].tolist() == list(OTHERS)
    drawn = [
        *annotation_figures.by_source(study, results),
        *annotation_figures.by_rung(study, results),
        *annotation_figures.best_split_figure(study, results.budgets),
        *annotation_figures.budget_parts(results.budgets),
    ]
    assert len(drawn) == 6
    for axes in drawn:
        assert isinstance(axes, Axes)
        axes.figure.canvas.draw()


def test_the_graph_has_every_run_the_seal_and_the_page(study, tmp_path):
    (tmp_path / "params").mkdir()
    environment = os.environ | {"RANKSCALE_ROOT": str(tmp_path)}
    command = [*batch.command(study, 1, 0), "--dry-run", "--directory", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE))
    assert jobs["train"] == str(len(study.all_runs))
    assert jobs["fit"] == jobs["annotate"] == jobs["index"] == "1"
