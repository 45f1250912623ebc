"""A forecast under other choices, on a small ladder whose law is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml

from rankscale_utils import laws
from rankscale_utils.analysis.compute import compute_exponents, training_costs
from rankscale_utils.analysis.fit import fit_study, fitted_rows
from rankscale_utils.analysis.forecast import seal_study
from rankscale_utils.analysis.multiverse import forecast_universes, universes
from rankscale_utils.study.loading import load_study
from tests.analysis.test_forecast import true_value

SIZES = {"xs": 1e4, "s": 3e4, "m": 1e5, "l": 3e5, "xl": 1e6}
EXPOSURES = np.geomspace(5e4, 1e6, 12)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Four fitted rungs and one held out; queries are counted, tokens and FLOPs are not."""
    root, rng, rows = tmp_path_factory.mktemp("multiverse"), np.random.default_rng(0), []
    for rung, N in SIZES.items():
        for seed in range(2):
            level = rng.normal(0, 0.002)
            for D in EXPOSURES:
                value = true_value("nDCG@10", N, D) + level + rng.normal(0, 0.001)
                rows.append(("listwise", rung, N, 0.8 * N, seed, D, D / 10, "test", "nDCG@10", value, 0.6))
    columns = ["objective", "rung", "params", "params_non_embedding", "seed", "exposure", "queries", "collection",
               "metric", "value", "ceiling"]  # fmt: skip
    pd.DataFrame(rows, columns=columns).to_csv(root / "small.csv", index=False)
    fields = {
        "measurements": "small.csv",
        "held_out": {"rungs": ["xl"]},
        "forecasting": {"draws": 100},
    }
    (root / "small.yaml").write_text(yaml.safe_dump(fields))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rankscale_utils.study.paths.ROOT", root)
        yield load_study(root / "small.yaml")


@pytest.fixture(scope="module")
def fitted(study):
    return fit_study(study)


@pytest.fixture(scope="module")
def found(study, fitted):
    return forecast_universes(study, fitted)


def test_rows_have_the_documented_columns(found):
    assert found.columns.tolist() == ["objective", "metric", "rung", "choice", "option", "forecast", "exponent"]
    assert set(found["objective"]) == {"listwise"}
    assert set(found["metric"]) == {"nDCG@10"}
    assert set(found["rung"]) == {"xl"}
    assert not found.duplicated(["choice", "option"]).any()
    assert found["forecast"].between(0, 0.6).all()
    assert found["exponent"].dropna().between(0, 1).all()
    assert found.loc[found["exponent"].isna(), "option"].tolist() == ["sigmoid"]  # which has no optimum


def test_the_first_universe_is_what_was_sealed(study, fitted, found):
    sealed = seal_study(study, fitted)
    average = sealed[(sealed["law"] == "average") & (sealed["rung"] == "xl")]
    assert found.loc[0, "choice"] == "as sealed"
    assert average["forecast"].to_numpy() == pytest.approx(found.loc[0, "forecast"], rel=1e-9)


def test_universes_that_need_a_column_that_is_missing_have_no_rows(study, fitted, found):
    tried = {(one.choice, one.option) for one in universes(study, fitted)}
    assert tried - set(zip(found["choice"], found["option"], strict=True)) == {
        ("D", "tokens"),
        ("N", "flops per pair"),
    }
    assert {("D", "queries"), ("N", "params")} <= set(zip(found["choice"], found["option"], strict=True))


def test_every_law_is_a_universe_of_its_own(fitted, found):
    options = found.loc[found["choice"] == "form", "option"]
    assert options.tolist() == ["additive", "logarithm", "Kaplan", "sigmoid"]


def test_averaging_is_a_choice_only_where_checkpoints_are_averaged(study, fitted, found):
    assert "no averaging" not in set(found["choice"])
    settings = study.forecasting.model_copy(update={"checkpoints": 2})
    choices = [one.choice for one in universes(study.model_copy(update={"forecasting": settings}), fitted)]
    assert "no averaging" in choices


def test_the_smallest_rung_can_be_left_out(fitted, found):
    """As laws fitted to the other three rungs by hand say."""
    others = [
        replace(one.average.series, table=one.table[one.table["rung"] != "xs"])
        for one in fitted
        if one.metric == "nDCG@10"
    ]
    at = pd.DataFrame({"N": [0.8 * SIZES["xl"]], "D": [EXPOSURES[-1]]})
    (made, *_) = laws.averages(others, laws.known(), 300)
    row = found[found["choice"] == "smallest rung"]
    assert row["option"].tolist() == ["left out"]
    assert row["forecast"].to_numpy() == pytest.approx(made.forecast(at)["forecast"].iloc[0], rel=1e-6)
    assert row["forecast"].iloc[0] != found.loc[0, "forecast"]


def test_what_merely_renames_an_axis_changes_little(found):
    """Here all parameters and queries grow as non-embedding parameters and pairs do."""
    renamed = found[found["choice"].isin(["N", "D"])]
    assert renamed["forecast"].to_numpy() == pytest.approx(found.loc[0, "forecast"], abs=1e-3)


def test_no_choice_leads_far_from_the_truth(found):
    truth = true_value("nDCG@10", SIZES["xl"], EXPOSURES[-1])
    assert (found["forecast"] - truth).abs().max() < 0.03


def test_the_share_of_data_is_the_same_whatever_counts_sizes(study, fitted, found):
    """N doubles where parameters outside the embeddings quadruple; a verdict on size or data must not see that."""
    table = pd.read_csv(study.measurements_file)
    table["params"] = 1000 * table["params_non_embedding"] ** 0.5
    root = study.measurements_file.parent
    table.to_csv(root / "embeddings.csv", index=False)
    fields = {"measurements": "embeddings.csv", "held_out": {"rungs": ["xl"]}}
    (root / "embeddings.yaml").write_text(yaml.safe_dump(fields | {"forecasting": {"draws": 100, "size": "params"}}))
    other = load_study(root / "embeddings.yaml")
    refitted = fit_study(other)
    costs = training_costs(fitted_rows(refitted), other.allocation.tokens_per_pair)[0]
    assert costs["listwise"].growth == pytest.approx(2)
    (share,) = compute_exponents(refitted, costs, 0.95)["b"]
    sealed, before = (table.loc[0, "exponent"] for table in (forecast_universes(other, refitted), found))
    assert sealed == pytest.approx(before, abs=0.03)
    assert sealed == pytest.approx(share, abs=0.1)
