"""Directions of metrics: by name, as stated, asked for, and never against what every run says."""

import numpy as np
import pandas as pd
import pytest
import yaml

from rankscale_utils import forecast
from rankscale_utils.errors import StudyError
from rankscale_utils.measurements.directions import MEASURES, known_direction, rising, seen_direction
from rankscale_utils.measurements.reading import read_ladder, read_measurements, study_measurements
from rankscale_utils.measurements.table import headline, limits
from rankscale_utils.study import paths
from rankscale_utils.study.forecasting import Forecasting
from rankscale_utils.study.loading import load_study

FEW = {"draws": 100}
SIZES = {"17m": 3.9e6, "32m": 1.25e7, "68m": 4.2e7, "150m": 1.13e8, "400m": 3.4e8}


def ladder(metric="nDCG@10", low=0.2, high=0.4, exposures=(10_000, 40_000, 160_000)):
    """Values between low and high, from the smallest rung's first exposure to the largest one's last."""
    rows = [
        {"objective": "listwise", "rung": rung, "params": size, "exposure": exposure, "collection": "dev",
         "metric": metric, "value": 4 * size**-0.2 + 6 * exposure**-0.4}
        for rung, size in SIZES.items() for exposure in exposures
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    value = table["value"]
    return table.assign(value=low + (high - low) * (value.max() - value) / (value.max() - value.min()))


@pytest.mark.parametrize(
    ("direction", "names"),
    {
        "rises": "nDCG@10 nDCG@10(judged_only=True) RR@10 MRR@10 AP AP(rel=2)@100 MAP R@100 P@10 P(rel=2)@5 recall "
        "ndcg_at_10 ERR@20 mrr_at_10 map_at_100 accuracy dev_acc acc_norm f1 F1 macro-F1 auc roc_auc AUROC hits@10 em "
        "dev/nDCG@10 top5_accuracy pearson cosine_spearman",
        "falls": "CE CE64 CE64-T CE256 loss dev_loss train/loss logloss entropy contrastive_entropy cross-entropy xent "
        "nll perplexity ppl bpb BPB bits_per_byte bpc error top1-error wer MSE rmse brier KL",
    }.items(),
)
def test_known_names(direction, names):
    assert {name: known_direction(name) for name in names.split()} == dict.fromkeys(names.split(), direction)
    assert {rising(name) for name in names.split()} == {direction == "rises"}


@pytest.mark.parametrize("name", ["helpfulness", "score", "err@20", "accuracy_loss", "x", "10", "win-rate", "mapping"])
def test_a_name_that_tells_nothing_or_both_is_asked_for(name):
    assert known_direction(name) is None
    with pytest.raises(StudyError, match=r"is not known by its name: write metrics: \{.*: rises or falls\}"):
        rising(name)
    assert not rising(name, {name: "falls"})


def test_every_measure_that_rises_in_ir_measures_is_known():
    import ir_measures

    others = {"NumQ", "NumRel", "NumRet"}  # which say nothing of quality
    assert set(ir_measures.measures.registry) - others <= MEASURES


def test_limits_follow_the_direction():
    assert limits(rises=True) == limits(True, np.nan) == (0, 1)
    assert limits(True, 0.7) == (0, 0.7)
    assert limits(False, 0.7) == (0, np.inf)


def test_names_a_list_and_a_mapping_are_metrics():
    assert Forecasting(metrics="AP").metrics == Forecasting(metrics=["AP"]).metrics == ("AP",)
    assert Forecasting(metrics=["AP"]).directions == Forecasting().directions == {}
    stated = Forecasting(metrics={"bpb": "falls", "quality": "rises"})
    assert list(stated.metrics) == ["bpb", "quality"]
    assert stated.directions == {"bpb": "falls", "quality": "rises"}
    assert Forecasting().model_dump()["metrics"] == ()  # what seals and stored fits have hashed all along


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"bpb": "down"}, "forecasting: metrics.bpb = 'down': input should be 'rises' or 'falls'."),
        ({}, "forecasting: metrics = {}: dictionary should have at least 1 item after validation, not 0."),
        (3, "forecasting: metrics = 3: must be a list."),
    ],
)
def test_what_is_no_direction_is_named(metrics, said):
    with pytest.raises(StudyError) as caught:
        forecast(ladder(), ["400m"], metrics=metrics, **FEW)
    assert str(caught.value) == said


def test_a_falling_metric_is_forecast_alike_under_any_name_that_says_so():
    """Bits per byte fell in every run, and were taken to rise."""
    made = [
        forecast(ladder(metric, 0.8, 0.5), ["400m"], metrics=metrics, **FEW)
        for metric, metrics in (("bpb", ()), ("bpb_loss", ()), ("quality", {"quality": "falls"}))
    ]
    for other in made[1:]:
        pd.testing.assert_frame_equal(other.drop(columns="metric"), made[0].drop(columns="metric"), check_exact=True)
    row = made[0].iloc[0]
    assert row["actual"] == pytest.approx(0.5)
    assert abs(row["relative_error"]) < 0.02
    assert row["lo"] < 0.5 < row["hi"]


def test_an_entropy_above_one_is_no_percentage():
    assert forecast(ladder("nll", 3.0, 2.4), ["400m"], **FEW)["relative_error"].abs().max() < 0.02


def test_an_unknown_direction_is_asked_for_with_what_the_values_say():
    with pytest.raises(StudyError) as caught:
        read_ladder(pd.concat([ladder("quality", 0.8, 0.5), ladder()]), (), ["400m"])
    assert str(caught.value) == (
        "whether quality rises or falls as models improve is not known by its name (its values say in every run that "
        "it falls): write metrics: {quality: falls, nDCG@10: rises} among the fields of forecasting, or the same as "
        "metrics={…} in Python."
    )
    both = pd.concat([ladder("quality", 0.8, 0.5), ladder()])
    assert len(read_ladder(both, ["nDCG@10"], ["400m"]).table) == len(both)  # nobody asked about it
    assert len(read_measurements(both)) == len(both)


@pytest.mark.parametrize(
    ("metric", "metrics", "how", "remedy"),
    [
        ("nDCG@10", (), "by its name one that rises", "falls"),
        ("bpb", {"bpb": "rises"}, "stated to be one that rises", "falls"),
    ],
)
def test_a_direction_against_every_run_is_refused_with_the_evidence(metric, metrics, how, remedy):
    with pytest.raises(StudyError) as caught:
        forecast(ladder(metric, 0.8, 0.5), ["400m"], metrics=metrics, **FEW)
    assert str(caught.value) == (
        f"{metric} is {how} as models improve, but its values fall wherever models grow or see more (listwise on dev: "
        f"0.6588 on 17m, 0.5271 on 150m): write metrics: {{{metric}: {remedy}}} if that is an improvement, correct the "
        f"values, or leave {metric} out."
    )
    with pytest.raises(StudyError, match=r"loss is by its name one that falls .* write metrics: \{loss: rises\}"):
        forecast(ladder("loss", 0.5, 0.8), ["400m"], **FEW)
    assert len(forecast(ladder(metric, 0.8, 0.5), ["400m"], metrics={metric: "falls"}, **FEW)) == 1


def read(table):
    return seen_direction(read_measurements(table), "nDCG@10")


def test_values_speak_against_a_direction_only_where_all_of_them_do():
    falling = ladder(low=0.8, high=0.5)
    assert read(falling) == "falls"
    assert read(ladder()) == "rises"
    one_step_up = falling.copy()
    one_step_up.loc[one_step_up["rung"] == "68m", "value"] += 0.2  # a rung out of line
    assert read(one_step_up) is None
    one_run_up = falling.copy()
    one_run_up.loc[one_run_up["rung"] == "68m", "value"] = [0.50, 0.51, 0.5301]
    assert read(one_run_up) is None
    flat = falling.assign(value=0.4)
    assert read(flat) is None
    other_series = ladder().assign(collection="other")
    assert read(pd.concat([falling, other_series])) is None


def test_few_values_say_nothing():
    """Three values in a row fall by chance in one of six tables, four in one of 24."""
    ends = ladder(low=0.8, high=0.5, exposures=(160_000,))
    assert read(ends[ends["rung"].isin(["17m", "32m", "68m"])]) is None
    assert read(ends[ends["rung"] != "400m"]) == "falls"


def test_held_out_values_are_not_looked_at():
    table = ladder(low=0.8, high=0.5)
    table.loc[table["rung"] == "400m", "value"] = 0.9
    with pytest.raises(StudyError, match=r"0\.6588 on 17m, 0\.5271 on 150m"):
        read_ladder(table, (), ["400m"])


def test_a_study_states_directions_in_its_yaml(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    pd.concat([ladder("quality", 0.8, 0.5), ladder("other")]).to_csv(tmp_path / "ladder.csv", index=False)
    fields = {"measurements": "ladder.csv", "held_out": {"rungs": ["400m"]}}

    def study(metrics):
        forecasting = {"forecasting": {"metrics": metrics}}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(fields | forecasting), encoding="utf-8")
        return load_study(tmp_path / "mine.yaml")

    with pytest.raises(StudyError, match="whether quality rises or falls"):
        study_measurements(study([]), fitted_only=True)
    stated = study({"quality": "falls"})
    table = study_measurements(stated, fitted_only=True)
    assert headline(stated, table) == "quality"  # `other` is not asked about
    with pytest.raises(StudyError, match=r"metrics \['quallity'\] have no row in the measurements: name some of"):
        study_measurements(study({"quallity": "falls"}), fitted_only=True)
