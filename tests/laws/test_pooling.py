"""Pooled exponents, on ladders whose law is known: what pooling may claim, and what it may not."""

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.laws import data_law, fit, forecast, joint_law, size_law
from rankscale_utils.laws.candidates import Candidate
from rankscale_utils.laws.pooling import Prior, pool

RUNGS = np.geomspace(4e3, 1.1e5, 4)
MANY = np.geomspace(1e3, 1e6, 12)
CHECKPOINTS = np.geomspace(5e3, 1.6e5, 12)
MIDDLE = np.exp(np.log(RUNGS).mean()), np.exp(np.log(CHECKPOINTS).mean())
LARGE = 10 * RUNGS[-1], CHECKPOINTS[-1]
PRIOR = Prior()
FORMS = [pytest.param(scale, rising, id=f"{scale}-{'rises' if rising else 'falls'}")
         for scale in ("value", "gap") for rising in (True, False)]  # fmt: skip


def joint(scale="gap", rising=True):
    return joint_law(rising, (0.0, 1.0 if rising else np.inf), scale)


def truth(alpha, asymptote=0.5, amplitude=0.3, beta=0.3):
    """Coefficients of a law on its scale, both terms `amplitude` at the middle of the four rungs."""
    N, D = MIDDLE
    return np.array([asymptote, amplitude * N**alpha, alpha, amplitude * D**beta, beta])


def ladder(law, coefficients, seed=0, *, sizes=RUNGS, seeds=1, between=0.02, within=0.01, name=""):
    """Runs of a known law; the noise of runs and of checkpoints is on the law's scale."""
    rng, runs = np.random.default_rng(seed), []
    for N in sizes:
        for repeat in range(seeds):
            noise = rng.normal(0, between) + rng.normal(0, within, len(CHECKPOINTS))
            value = law.from_scale(law.predict(coefficients, N, CHECKPOINTS, scale=law.scale) + noise)
            run = {"run": f"{name}{N:g}-{repeat}", "params_non_embedding": N}
            runs.append(pd.DataFrame({**run, "exposure": CHECKPOINTS, "value": value}))
    return pd.concat(runs, ignore_index=True)


def alpha_of(fitted):
    return fitted.coefficients["alpha"]


def alphas_alone(alpha, simulations, **runs):
    """Exponents of ladders that are pooled with the prior only."""
    law = joint()
    return [alpha_of(pool([law], [ladder(law, truth(alpha), seed, **runs)])[0]) for seed in range(simulations)]


def ahead(law, coefficients):
    """Prediction (...) at the large rung, on the law's scale."""
    return law.predict(coefficients, *LARGE, scale=law.scale)[..., 0]


@pytest.mark.parametrize(("scale", "rising"), FORMS)
@pytest.mark.parametrize(("alpha", "tolerance"), [(0.45, 0.01), (0.53, 0.01), (0.6, 0.015), (0.9, 0.08)])
def test_without_noise_a_law_is_predicted_far_beyond_its_ladder(scale, rising, alpha, tolerance):
    """Far from the prior four runs say less, and the grid of exponents is coarse."""
    law = joint(scale, rising)
    laws = [truth(alpha, *rest) for rest in ((0.7, 0.15, 0.25), (0.8, 0.15, 0.35), (0.75, 0.15, 0.5))]
    tables = [ladder(law, one, between=0, within=0, name=f"{place}:") for place, one in enumerate(laws)]
    for fitted, coefficients in zip(pool([law] * 3, tables), laws, strict=True):
        assert fitted.predict(*LARGE) == pytest.approx(law.predict(coefficients, *LARGE), rel=tolerance)
        assert fitted.status == "converged"


@pytest.mark.parametrize("alpha", [0.2, 0.9])
def test_a_weak_ladder_leans_on_the_prior_and_many_runs_do_not(alpha):
    weak = np.mean(alphas_alone(alpha, 10, between=0.03))
    strong = np.array(alphas_alone(alpha, 6, between=0.03, sizes=MANY, seeds=5))
    assert abs(weak - PRIOR.mean) < 0.7 * abs(alpha - PRIOR.mean)
    assert (np.abs(strong - PRIOR.mean) > 0.7 * abs(alpha - PRIOR.mean)).all()


def test_many_runs_overrule_a_prior_that_is_far_off():
    assert np.mean(alphas_alone(1.3, 3, between=0.03, sizes=MANY, seeds=5)) == pytest.approx(1.3, abs=0.1)


def test_series_inform_one_another():
    """Nine ladders of one exponent move the tenth, which alone stays near the prior."""
    law, few = joint(), {"between": 0.01, "within": 0.005}
    tables = [ladder(law, truth(0.9), place, **few, name=f"{place}:") for place in range(10)]
    alone, together = pool([law], tables[:1])[0], pool([law] * 10, tables)[0]
    assert alpha_of(alone) + 0.05 < alpha_of(together) < 0.95


@pytest.mark.parametrize(("runs", "status"), [({"sizes": RUNGS[:2]}, "led by the prior"),
                                              ({"sizes": MANY, "seeds": 5}, "converged")])  # fmt: skip
def test_status_says_whether_the_data_moved_the_exponent(runs, status):
    law = joint()
    for seed in range(5):
        fitted = pool([law], [ladder(law, truth(0.53), seed, **runs)])[0]
        assert fitted.status == status
        assert fitted.pooled
        if status == "led by the prior":
            assert alpha_of(fitted) == pytest.approx(PRIOR.mean, abs=0.05)


@pytest.fixture
def two_series():
    law = joint()
    return law, [ladder(law, truth(alpha), place, name=f"{place}:") for place, alpha in enumerate((0.9, 0.4))]


def copied(law, tables, copies):
    once = pool([law] * 2, tables)
    return once, pool([law] * (copies + 1), [tables[0]] * copies + tables[1:])


@pytest.mark.parametrize("copies", [2, 10])
def test_metrics_of_the_same_runs_count_as_one(two_series, copies):
    once, often = copied(*two_series, copies)
    assert alpha_of(often[-1]) == pytest.approx(alpha_of(once[1]), abs=1e-9)
    for fitted in often[:copies]:
        assert alpha_of(fitted) == pytest.approx(alpha_of(once[0]), abs=0.06)
        assert fitted.predict(*LARGE) == pytest.approx(once[0].predict(*LARGE), rel=0.06)


def test_a_series_does_not_hear_its_own_copies(two_series):
    once, often = copied(*two_series, 10)
    assert alpha_of(often[0]) == pytest.approx(alpha_of(once[0]), abs=1e-9)


def drawn(law, tables, seed=0, draws=500, prior=PRIOR):
    fits = pool([law] * len(tables), tables, prior)
    return Candidate("joint", pooled=True).resample(fits, prior, draws, seed)


def test_series_of_the_same_runs_move_together_and_others_apart(two_series):
    """Judged where exponents hardly hang together: what a pooled exponent shares is meant to move others too."""
    law, (table, _) = two_series
    weaker = table.assign(value=law.from_scale(0.5 * law.to_scale(table["value"])))  # another metric of these runs
    renamed = table.assign(run="other " + table["run"])
    one, same, metric, apart = drawn(law, [table, table, weaker, renamed], prior=Prior(between=2.0))
    np.testing.assert_array_equal(one.coefficients, same.coefficients)
    correlation = np.corrcoef([ahead(law, draws.coefficients) for draws in (one, metric, apart)])[0]
    assert correlation[1] > 0.9
    assert abs(correlation[2]) < 0.15


def test_pooled_draws_repeat_with_their_seed(two_series):
    first, again, other = (drawn(*two_series, seed=seed, draws=20) for seed in (1, 1, 2))
    for mine, repeated, another in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(mine.coefficients, repeated.coefficients)
        assert not np.allclose(mine.coefficients, another.coefficients)


def test_draws_do_not_depend_on_how_many_are_made_at_once(two_series, monkeypatch):
    many = drawn(*two_series, draws=60)
    monkeypatch.setattr("rankscale_utils.laws.pooling.RESAMPLES_TOGETHER", 7)
    for one, other in zip(many, drawn(*two_series, draws=60), strict=True):
        np.testing.assert_allclose(one.coefficients, other.coefficients, rtol=1e-6)


@pytest.mark.parametrize("between", [1e-4, 0.005])
def test_draws_of_a_prior_narrower_than_its_grid_are_numbers(two_series, between):
    for draws in drawn(*two_series, prior=Prior(between=between)):
        assert np.isfinite(draws.coefficients).all()


def test_pooling_forecasts_better_than_a_fit_to_four_runs():
    """The truth is drawn from the prior, as the prior claims; 300 such ladders give the same answer."""
    law, rng, errors = joint(), np.random.default_rng(1), []
    for seed in range(30):
        coefficients = truth(max(rng.normal(0.53, 0.15), 0.1))
        table = ladder(law, coefficients, seed)
        found = np.stack([pool([law], [table])[0].vector, fit(law, table, scale="gap").vector])
        errors.append(ahead(law, found) - ahead(law, coefficients))
    pooled, alone = np.sqrt(np.mean(np.square(errors), axis=0))
    assert pooled < 0.9 * alone


@pytest.mark.parametrize("seeds", [1, 3])
def test_pooled_intervals_cover_the_truth_about_as_often_as_they_say(seeds):
    law, rng, hits = joint(), np.random.default_rng(2), []
    at = pd.DataFrame({"params_non_embedding": LARGE[:1], "exposure": LARGE[1:]})
    for seed in range(60):
        coefficients = truth(max(rng.normal(0.53, np.hypot(PRIOR.sd, PRIOR.between)), 0.1))
        made = forecast(drawn(law, [ladder(law, coefficients, seed, seeds=seeds)], seed, draws=60)[0], at)
        mean = ahead(law, coefficients)
        true = law.from_scale(np.array([mean, mean + rng.normal(0, 0.02) + rng.normal(0, 0.01)]))
        hits.append((made["lo"] <= true) & (true <= made["hi"]))
    mean_law, new_run = np.mean(hits, axis=0)
    assert mean_law >= (0.8 if seeds == 1 else 0.7)  # 300 simulations: 0.90 and 0.78
    assert new_run >= 0.85  # 300 simulations: 0.96 and 0.91


def test_a_pooled_exponent_leaves_a_degree_of_freedom(two_series):
    law, tables = two_series
    assert [draws.degrees for draws in drawn(law, tables, draws=2)] == [4 - 2, 4 - 2]


def test_prior_follows_the_measure_of_size():
    other = PRIOR.on_another_size(2)
    assert (other.mean, other.sd, other.between) == (2 * PRIOR.mean, 2 * PRIOR.sd, 2 * PRIOR.between)
    law = joint()
    table = ladder(law, truth(0.6), sizes=RUNGS)
    rooted = table.assign(params_non_embedding=np.sqrt(table["params_non_embedding"]))
    once, again = pool([law], [table])[0], pool([law], [rooted], other)[0]
    assert alpha_of(again) == pytest.approx(2 * alpha_of(once), rel=0.1)
    assert again.predict(LARGE[0] ** 0.5, LARGE[1]) == pytest.approx(once.predict(*LARGE), rel=0.02)


def test_a_size_law_is_pooled_too():
    law = size_law(True, (0.0, 1.0), "gap")
    table = ladder(joint(), truth(0.53), sizes=MANY, between=0.003, within=0.001)
    last = table[table["exposure"] == CHECKPOINTS[-1]]
    assert alpha_of(pool([law], [last])[0]) == pytest.approx(0.53, abs=0.06)


def test_pooling_names_what_it_cannot_use():
    table = ladder(joint(), truth(0.53))
    with pytest.raises(ValueError, match="no size exponent"):
        pool([data_law(True)], [table])
    with pytest.raises(ValueError, match="'exposure' is missing"):
        pool([joint()], [table.drop(columns="exposure")])


def test_pooling_refuses_a_value_at_the_ceiling():
    table = ladder(joint(), truth(0.53))
    with pytest.raises(ValueError, match="not short of the limit"):
        pool([joint()], [table.assign(value=table["value"].where(table.index != 3, 1.0))])
