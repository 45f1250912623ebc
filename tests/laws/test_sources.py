import dataclasses

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.laws import data_law, fit, kaplan_law, resample, size_law
from rankscale_utils.laws.sources import coefficients_by_source, draws_by_source, worth_in_pairs

LAW = data_law(False)
TRUTH = {"human": [0.05, 40.0, 0.6], "generated": [0.08, 40.0, 0.5], "inverse cloze": [0.3, 20.0, 0.4]}
COUNTS = np.geomspace(500, 64000, 8)


def measured(truth, noise=0.01, seed=0, seeds=2):
    """One run for each number of pairs and seed, each trained to its own end."""
    rng, rows = np.random.default_rng(seed), []
    for D in COUNTS:
        for repeat in range(seeds):
            value = LAW.predict(truth, D=D)[0] * np.exp(rng.normal(0, noise))
            rows.append((f"{D:.0f}-{repeat}", 1e6, D, value))
    return pd.DataFrame(rows, columns=["run", "params_non_embedding", "annotations", "value"])


@pytest.fixture(scope="module")
def sources():
    tables = {name: measured(truth, seed=place) for place, (name, truth) in enumerate(TRUTH.items())}
    return draws_by_source(LAW, tables, draws=200)


@pytest.fixture
def exact(sources):
    """The same sources, their coefficients exactly the truth."""
    return {
        name: dataclasses.replace(
            draws,
            fit=dataclasses.replace(draws.fit, coefficients=dict(zip(LAW.coefficient_names, TRUTH[name], strict=True))),
        )
        for name, draws in sources.items()
    }


def test_p1s_public_points_are_refitted():
    """Its five points of contrastive entropy against non-embedding size, and its law (arXiv 2403.18684, MS MARCO).

    The published alpha and asymptote come out; the published A, 3.22e4, does not: with it the law passes 5 to 12%
    below these points, so it was fitted to others.
    """
    points = {0.4884: 0.3148, 3.2637: 0.1443, 12.65: 0.0891, 24.677: 0.0732, 82.24: 0.0586}
    table = pd.DataFrame({"params_non_embedding": [1e6 * N for N in points], "exposure": 1.0, "value": points.values()})
    found = fit(size_law(False), table.assign(run=table.index), scale="gap")
    assert found.status == "converged"
    assert found.coefficients["alpha"] == pytest.approx(0.53, abs=0.01)
    assert found.coefficients["asymptote"] == pytest.approx(0.04, abs=0.005)
    assert found.r2 > 0.991


def test_coefficients_of_every_source_stand_side_by_side_with_intervals(sources):
    table = coefficients_by_source(sources)
    assert table["source"].unique().tolist() == list(TRUTH)
    truth = np.concatenate(list(TRUTH.values()))
    assert (table["lo"] <= table["value"]).all()
    assert (table["value"] <= table["hi"]).all()
    assert ((table["lo"] <= truth) & (truth <= table["hi"])).mean() > 0.7
    assert table.loc[table["coefficient"] == "asymptote", "lo"].min() >= 0


def test_a_joint_law_is_compared_too():
    law, truth = kaplan_law(False), [0.05, 3e4, 0.5, 3e3, 0.8]
    rows = [(f"{N}-{D}", N, D, law.predict(truth, N, D)[0]) for N in (1e5, 1e6, 1e7) for D in (1e3, 1e4, 1e5, 1e6)]
    table = pd.DataFrame(rows, columns=["run", "params_non_embedding", "annotations", "value"])
    table = coefficients_by_source(draws_by_source(law, {"human": table}, draws=20))
    assert table["value"].to_numpy() == pytest.approx(truth, rel=1e-3)


def test_sources_are_resampled_independently():
    same = {name: measured(TRUTH["human"]) for name in ("human", "copy")}
    human, copy = draws_by_source(LAW, same, draws=100).values()
    assert human.fit.coefficients == copy.fit.coefficients
    assert abs(np.corrcoef(human.coefficients[:, 2], copy.coefficients[:, 2])[0, 1]) < 0.5


def test_worth_is_the_ratio_of_the_pairs_that_reach_a_quality(exact):
    table = worth_in_pairs(exact, [0.5, 0.2])
    for row in table[table["status"] == "reachable"].itertuples():
        assert LAW.predict(TRUTH[row.source], D=row.pairs)[0] == pytest.approx(row.quality)
        assert LAW.predict(TRUTH["human"], D=row.reference_pairs)[0] == pytest.approx(row.quality)
        assert row.worth == pytest.approx(row.pairs / row.reference_pairs)
        assert row.lo < row.worth < row.hi
    generated = table[table["source"] == "generated"]["worth"]
    assert (generated > 1).all()
    assert generated.iloc[1] > generated.iloc[0]  # the better the quality, the more a human pair is worth


def test_a_source_that_never_gets_there_is_said_so(exact):
    row = worth_in_pairs(exact, 0.2).set_index("source").loc["inverse cloze"]
    assert row["status"] == "out of reach with any number of the source's pairs"
    assert np.isnan(row[["pairs", "worth", "lo", "hi"]].astype(float)).all()
    assert row["reference_pairs"] > 0
    assert row["reached"] < 0.5


def test_too_few_draws_that_reach_a_quality_leave_it_unbounded(sources):
    two = {name: sources[name] for name in ("human", "generated")}
    quality = np.quantile(sources["generated"].coefficients[:, 0], 0.9)
    found = worth_in_pairs(two, quality).iloc[0]
    assert 0.85 < found["reached"] < 0.95
    assert 0 < found["lo"] < found["worth"] < found["hi"] == np.inf
    turned = worth_in_pairs(two, quality, reference="generated").iloc[0]
    assert 0 == turned["lo"] < turned["worth"] < turned["hi"] < np.inf


def test_equal_sources_are_worth_each_other():
    tables = {name: measured(TRUTH["human"], seed=seed) for seed, name in enumerate(["human", "copy"])}
    table = worth_in_pairs(draws_by_source(LAW, tables, draws=200), [0.6, 0.4])
    assert (table["lo"] < 1).all()
    assert (table["hi"] > 1).all()
    assert (table["hi"] / table["lo"] < 2).all()


def test_mistakes_are_one_sentence(sources):
    with pytest.raises(ValueError, match="reference 'people' is not a source; use one of human, generated"):
        worth_in_pairs(sources, 0.3, reference="people")
    with pytest.raises(ValueError, match="annotation source 'human': column 'value' is missing"):
        draws_by_source(LAW, {"human": measured(TRUTH["human"]).drop(columns="value")})
    with pytest.raises(ValueError, match="size law"):
        draws_by_source(size_law(False), {"human": measured(TRUTH["human"])})
    joint = resample(fit(kaplan_law(False), measured(TRUTH["human"]), exposure="annotations"), draws=5)
    with pytest.raises(ValueError, match="compare worth by data laws"):
        worth_in_pairs(sources | {"joint": joint}, 0.3)
