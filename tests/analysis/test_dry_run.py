"""What follows training, run on designs alone: what works, what is left out, what is refused before any step."""

import numpy as np
import pandas as pd
import pytest
import yaml

from rankscale_utils.analysis.dry_run import plausible_measurements, rehearse
from rankscale_utils.errors import StudyError
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study

SIZES = {"w8": 1225, "w10": 1851, "w12": 2605, "w16": 4497, "w24": 9817, "w48": 38065}  # as counted
FIELDS = {
    "ladder": {rung: {"hidden": int(rung[1:])} for rung in SIZES},
    "objectives": {"listwise": {"learning_rate": {"base": 1e-3}}},
    "training": {"exposures": [10_000, 15_000, 20_000, 30_000, 40_000, 80_000]},
    "held_out": {"rungs": ["w48"]},
    "forecasting": {"metrics": ["nDCG@10", "CE19"]},
}


@pytest.fixture
def design(tmp_path, monkeypatch):
    """Return what makes a study, its ladder and its references: design(sizes, section={…})."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)

    def make(sizes=SIZES, **sections):
        fields = {name: FIELDS.get(name, {}) | sections.get(name, {}) for name in FIELDS | sections}
        fields["ladder"] = {rung: {"hidden": 8} for rung in sizes}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))
        study = load_study(tmp_path / "mine.yaml")
        counts = {rung: {"params": 64 * size, "params_non_embedding": size} for rung, size in sizes.items()}
        metrics = {"nDCG@10": (0.12, 0.55), "RR@10": (0.1, 0.55), "R@20": (0.55, 0.55), "P@20": (0.0275, 0.0275)}
        rows = [(metric, *values) for metric, values in metrics.items()] + [("CE19", np.log(20), np.nan)]
        between = pd.DataFrame(rows, columns=["metric", "random_order", "ceiling"])
        between = between.assign(family="cross_encoder", collection="test", task="rerank", first_stage=np.nan)
        ladder = {"rungs": {"cross_encoder": counts}, "exposures": list(study.training.exposures)}
        return study, ladder, between

    return make


def refusal(*design):
    with pytest.raises(StudyError) as said:
        rehearse(*design)
    return str(said.value)


def test_plausible_values_lie_between_a_random_order_and_a_perfect_one_and_improve(design):
    table = plausible_measurements(*design())
    ranked = table[table["metric"] == "nDCG@10"].pivot(index="params", columns="exposure", values="value")
    assert ranked.min(axis=None) > 0.12
    assert ranked.max(axis=None) < 0.55
    assert ranked.iloc[-1].mean() > ranked.iloc[0].mean()
    entropies = table[table["metric"] == "CE19"].set_index(["params", "exposure"])["value"]
    assert entropies.loc[64 * 1225, 10_000] > entropies.loc[64 * 38065, 80_000] > 0
    assert (table.loc[table["metric"] == "R@20", "value"] == 0.55).all()


def test_a_design_on_which_everything_works_leaves_nothing_out(design):
    assert rehearse(*design()) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"size": "params"},
        {"size": "flops_per_pair"},
        {"exposure": "tokens"},
        {"exposure": "queries"},
        {"checkpoints": 2, "burn_in": 0},
    ],
)
def test_units_and_averaged_checkpoints_are_joined(design, settings):
    assert rehearse(*design(forecasting=settings)) == []


def test_a_metric_that_no_ranking_changes_is_left_out(design):
    left_out = rehearse(*design(forecasting={"metrics": []}))
    ceiling = "{} on test: {} is its ceiling, {}, in every run: reranking the candidates cannot change it"
    assert left_out == [ceiling.format("R@20", "R@20", "0.55"), ceiling.format("P@20", "P@20", "0.0275")]


def test_a_study_of_such_metrics_alone_is_refused(design):
    said = refusal(*design(forecasting={"metrics": ["R@20", "P@20"]}))
    assert said.startswith("forecasting.metrics = ['R@20', 'P@20']: nothing can be forecast, as R@20 is its ceiling")
    assert said.endswith(": name other metrics.")


def test_two_exposures_divide_no_budget(design):
    (budget,) = rehearse(*design(training={"exposures": [40_000, 80_000]}))
    assert budget.startswith("how to divide a budget between size and exposure: a joint law needs three exposures")
    assert "training.exposures = [40000, 80000]" in budget


def test_three_fitted_rungs_have_no_past(design):
    (said,) = rehearse(*design(held_out={"rungs": ["w16", "w24", "w48"]}))
    assert said == "the ladder's own past, and how often its intervals held: that takes four fitted rungs or more"


@pytest.mark.parametrize(("second", "said"), [(1000, "1 size (params_non_embedding 1,000)"),
                                              (2000, "2 sizes (params_non_embedding 1,000, 2,000)")])  # fmt: skip
def test_rungs_of_too_few_sizes_are_refused(design, second, said):
    sizes = {"deep": 1000, "wide": 1000, "other": second, "large": 9000}
    refused = refusal(*design(sizes, held_out={"rungs": ["large"]}))
    assert refused == (
        f"ladder: the fitted rungs deep, wide, other of the cross_encoder have {said}, but a size law needs 3: give "
        "them other shapes, or hold out fewer."
    )


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"forecasting": {"metrics": ["nDCG@5"]}}, "forecasting.metrics ['nDCG@5'] will not be measured: name some of"),
        ({"forecasting": {"headline": "RR@10"}}, "forecasting.headline = 'RR@10' will not be forecast: name one of"),
        ({"allocation": {"wanted": 45}}, "allocation.wanted = 45: nDCG@10 of these candidates stays below 0.55"),
    ],
)
def test_names_and_values_that_can_never_be_are_refused(design, sections, said):
    assert refusal(*design(**sections)).startswith(said)
