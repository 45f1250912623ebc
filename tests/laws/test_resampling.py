import numpy as np
import pandas as pd
import pytest
from scipy.optimize import least_squares

from rankscale_utils.laws import fit, forecast, joint_law, refit, resample
from rankscale_utils.laws.problem import Problem
from rankscale_utils.laws.resampling import WEBB, noise_sds, robust_sd, wild_targets

from .conftest import TRUTH


def loss_and_scipy(fitted, targets, coefficients):
    """Huber's loss of `coefficients`, and of what SciPy finds for the same targets."""
    problem = Problem.of(fitted.law, fitted.data, fitted.scale)

    def residuals(working):
        return problem.predict(working) - problem.on_scale(targets)

    found = least_squares(
        residuals,
        problem.start(),
        problem.jacobian,
        bounds=problem.bounds,
        loss="huber",
        f_scale=fitted.noise,
        x_scale="jac",
        xtol=1e-12,
        ftol=1e-14,
        gtol=1e-14,
    )
    size = np.abs(residuals(problem.to_working(coefficients)))
    inner = np.minimum(size, fitted.noise)
    return (inner * (size - inner / 2)).sum(), found.cost, problem.from_working(found.x)


@pytest.mark.parametrize(("seeds", "scale"), [(3, "value"), (3, "gap"), (1, "value")])
def test_refits_together_find_what_scipy_finds_one_by_one(law, ladder, seeds, scale):
    fitted = fit(law, ladder(seeds=seeds), scale=scale)
    values = fitted.predict(fitted.data["N"], fitted.data["D"])
    targets = wild_targets(fitted, fitted.residuals, values, 40, 0)
    for target, coefficients in zip(targets, refit(fitted, targets), strict=True):
        ours, scipys, found = loss_and_scipy(fitted, target, coefficients)
        assert ours <= scipys * (1 + 1e-6)
        if seeds == 3:
            ahead = law.predict(np.stack([coefficients, found]), 4.4e5, 1.6e5)
            assert ahead[0] == pytest.approx(ahead[1], rel=1e-4)


def test_weights_count_rows(law, ladder):
    fitted = fit(law, ladder())
    weights = np.random.default_rng(0).integers(0, 3, fitted.rows)
    kept = fit(law, ladder()[weights > 0], noise=fitted.noise)
    values = fitted.data["value"].to_numpy()
    np.testing.assert_allclose(refit(fitted, values, weights > 0)[0], kept.vector, rtol=1e-4)


def test_refit_of_the_measured_values_stays_where_it_is(law, ladder):
    fitted = fit(law, ladder())
    np.testing.assert_allclose(refit(fitted, fitted.data["value"].to_numpy())[0], fitted.vector, rtol=1e-5)


def test_checkpoints_of_a_run_move_together(law, ladder):
    fitted = fit(law, ladder())
    values = fitted.predict(fitted.data["N"], fitted.data["D"])
    moved = (wild_targets(fitted, fitted.residuals, values, 50, 0) - values) / fitted.residuals
    inflation = np.sqrt(12 / 9)
    for run in fitted.data.groupby("run").indices.values():
        np.testing.assert_allclose(moved[:, run], moved[:, run[:1]] * np.ones(len(run)), rtol=1e-6)
        assert set(np.round(moved[:, run[0]] / inflation, 6)) <= set(np.round(WEBB, 6))


def test_more_checkpoints_of_the_same_runs_are_not_more_evidence(law, ladder, held_out):
    """The trap: with rows as evidence, copies of a run's level would shrink the interval by their square root."""
    table = ladder(within=0)
    copies = [table.assign(exposure=table["exposure"] * shift) for shift in (1.0, 1.02, 1.04, 1.06)]
    more = fit(law, pd.concat(copies, ignore_index=True))
    few, many = (forecast(resample(fitted), held_out).iloc[0] for fitted in (fit(law, table), more))
    assert (many["hi"] - many["lo"]) > 0.8 * (few["hi"] - few["lo"])


def test_draws_repeat_with_their_seed(law, ladder):
    fitted = fit(law, ladder())
    first, again, other = (resample(fitted, draws=20, seed=seed).coefficients for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_noise_is_split_between_runs_and_checkpoints(law, ladder):
    found = [noise_sds(fitted, fitted.residuals) for fitted in (fit(law, ladder(seed)) for seed in range(30))]
    between, within = np.sqrt(np.mean(np.square(found), axis=0))
    assert between == pytest.approx(0.004, rel=0.15)
    assert within == pytest.approx(0.002, rel=0.1)


def test_degrees_of_freedom_count_runs(law, ladder):
    assert resample(fit(law, ladder()), draws=2).degrees == 12 - 3
    assert resample(fit(law, ladder(seeds=1)), draws=2).degrees == 1
    one_row_a_run = ladder().groupby("run", as_index=False).nth([0, 2, 5]).assign(run=range(36))
    assert resample(fit(law, one_row_a_run), draws=2).degrees == 36 - 5


def test_wild_draws_do_not_carry_the_interval():
    draws = np.random.default_rng(0).normal(size=(1000, 2))
    draws[:5] = 1e6
    np.testing.assert_allclose(robust_sd(draws), 1, rtol=0.1)


def test_a_falling_law_is_resampled_on_logarithms(ladder):
    falling = joint_law(rising=False)
    draws = resample(fit(falling, ladder(law=falling), scale="gap"), draws=200)
    truth = falling.predict(TRUTH, 1.1e5, 1.6e5)
    assert np.median(draws.predict(1.1e5, 1.6e5)) == pytest.approx(truth[0], rel=0.02)


def test_checkpoints_cannot_be_resampled(law, ladder):
    with pytest.raises(ValueError, match="by is 'row'"):
        resample(fit(law, ladder()), by="row")
