"""Which laws are averaged, and how far their intervals reach, on ladders whose law is known."""

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.laws import (
    Average,
    Candidate,
    Prior,
    Series,
    calibrated,
    candidates,
    choose,
    expanding,
    expanding_intervals,
    joint_law,
    kept_averages,
)
from rankscale_utils.laws.averaging import combined
from rankscale_utils.laws.forecasting import interval_score
from rankscale_utils.laws.resampling import t_quantile

RUNGS = np.geomspace(4e3, 1.1e5, 4)
CHECKPOINTS = np.geomspace(2e4, 1.6e5, 12)
LARGE = pd.DataFrame({"rung": ["large"], "N": [1e6], "D": [CHECKPOINTS[-1]]})
LIMITS = (0.0, 0.8)
LAW = joint_law(True, LIMITS, "gap")
PRIOR = Prior()
N, D = np.exp(np.log(RUNGS).mean()), np.exp(np.log(CHECKPOINTS).mean())
TRUTH = np.array([1.4, 0.4 * N**0.5, 0.5, 0.3 * D**0.4, 0.4])  # −log gap without end, A, alpha, B, beta
KEPT = [Candidate("size", True), Candidate("joint", True)]


def series(seed=0, *, name="listwise", metric="nDCG@10", sizes=RUNGS, between=0.01, within=0.01):
    """One run a rung, of the known law; noise is even on the gap's scale."""
    rng, runs = np.random.default_rng(seed), []
    for size in sizes:
        noise = rng.normal(0, between) + rng.normal(0, within, len(CHECKPOINTS))
        value = LAW.from_scale(LAW.predict(TRUTH, size, CHECKPOINTS, scale="gap") + noise)
        run = {"run": f"{name}-{size:g}", "rung": f"{size:g}", "N": size}
        runs.append(pd.DataFrame({**run, "D": CHECKPOINTS, "value": value}))
    labels = {"objective": name, "metric": metric, "collection": "test"}
    return Series(labels, pd.concat(runs, ignore_index=True), True, LIMITS, "gap")


def scaled(one, rungs, factor):
    """The series with the values of some rungs (counted from the smallest, 0) multiplied."""
    sizes = np.unique(one.table["N"])[rungs]
    value = one.table["value"].where(~one.table["N"].isin(sizes), one.table["value"] * factor)
    return Series(one.labels, one.table.assign(value=value), one.rising, one.limits, one.scale)


@pytest.fixture(scope="module")
def two():
    return [series(1), series(2, name="pointwise")]


@pytest.fixture(scope="module")
def found(two):
    return kept_averages(two, KEPT, PRIOR, draws=200)


@pytest.fixture(scope="module")
def calibration(found):
    return calibrated(found, [LARGE] * 2, KEPT, PRIOR, simulations=60)


@pytest.fixture(scope="module")
def past(two):
    return expanding(two, candidates(two), PRIOR)


class TestExpanding:
    def test_every_rung_from_the_third_on_is_forecast_by_every_candidate(self, two, past):
        assert past.groupby("candidate").size().to_dict() == {one.name: 4 for one in candidates(two)}
        assert set(zip(past["rungs_fitted"], past["rung"], strict=True)) == {
            (2, f"{RUNGS[2]:g}"),
            (3, f"{RUNGS[3]:g}"),
        }

    def test_errors_are_relative_to_what_was_measured_at_the_end(self, two, past):
        row = past.iloc[0]
        table = two[0].table
        end = table[(table["N"] == RUNGS[2]) & (table["D"] == CHECKPOINTS[-1])]["value"].item()
        before = table[(table["N"] == RUNGS[1]) & (table["D"] == CHECKPOINTS[-1])]["value"].item()
        assert (row["actual"], row["no_change"]) == (end, before)
        assert row["error"] == pytest.approx(row["forecast"] / end - 1)

    @pytest.mark.parametrize(("fitted", "larger"), [(2, [2, 3]), (3, [3])])
    def test_neither_the_rung_that_is_forecast_nor_a_larger_one_is_seen(self, two, past, fitted, larger):
        changed = expanding([scaled(one, larger, 0.7) for one in two], candidates(two), PRIOR)
        keys = ["candidate", "objective", "rung", "forecast", "no_change"]
        before, after = (table.loc[table["rungs_fitted"] == fitted, keys] for table in (past, changed))
        pd.testing.assert_frame_equal(before, after)
        assert (changed.loc[changed["rungs_fitted"] == fitted, "actual"] < after["no_change"]).all()

    def test_a_smaller_rung_is_seen(self, two, past):
        changed = expanding([scaled(one, [1], 0.9) for one in two], KEPT, PRIOR)
        before = past[past["candidate"].isin([one.name for one in KEPT])]
        assert (before["forecast"].to_numpy() != changed["forecast"].to_numpy()).all()

    def test_two_rungs_tell_a_law_that_stands_alone_nothing(self, past):
        alone = past["candidate"].str.endswith("alone")
        idle = past["forecast"] == past["no_change"]
        assert idle[alone & (past["rungs_fitted"] == 2)].all()
        assert not idle[~alone | (past["rungs_fitted"] == 3)].any()

    def test_the_true_law_is_near(self, past):
        pooled = past[past["candidate"] == "joint, pooled"]
        assert pooled["error"].abs().max() < 0.06
        assert pooled["error"].abs().mean() < (past["no_change"] / past["actual"] - 1).abs().mean() / 2

    def test_two_rungs_have_no_past(self):
        assert expanding([series(sizes=RUNGS[:2])], KEPT, PRIOR).empty


def judged(errors, metrics=("nDCG@10",)):
    """A past in which candidates made these errors at one rung after the other, the same for every metric."""
    rows = [{"candidate": name, "objective": "listwise", "metric": metric, "rungs_fitted": 2 + step, "error": error}
            for name, steps in errors.items() for step, error in enumerate(steps) for metric in metrics]  # fmt: skip
    return choose(pd.DataFrame(rows))


class TestChoose:
    ERRORS = {  # noqa: RUF012
        "far": [0.10, -0.12, 0.11, -0.09],
        "best": [-0.02, 0.01, 0.02, -0.03],
        "near": [0.03, -0.01, 0.01, 0.04],  # 0.01, 0, −0.01 and 0.01 behind
    }

    def test_the_best_is_kept_and_what_is_within_a_standard_error_of_it(self):
        table = judged(self.ERRORS).set_index("candidate")
        assert table.index.tolist() == ["best", "near", "far"]
        assert table["kept"].tolist() == [True, True, False]
        assert table["loss"].tolist() == pytest.approx([0.02, 0.0225, 0.105])
        assert table["behind"].tolist() == pytest.approx([0, 0.0025, 0.085])
        assert table.loc["near", "doubt"] == pytest.approx(np.std([0.01, 0, -0.01, 0.01], ddof=1) / 2)
        assert set(table["observations"]) == {4}

    def test_a_small_lag_that_never_fails_is_told_apart(self):
        table = judged({"best": [0.01, 0.02, 0.03], "always behind": [0.012, 0.0221, 0.032]})
        assert table["kept"].tolist() == [True, False]

    def test_metrics_of_the_same_rung_and_objective_are_one_observation(self):
        many = judged(self.ERRORS, metrics=("nDCG@10", "MRR@10", "P@1"))
        pd.testing.assert_frame_equal(many, judged(self.ERRORS))

    def test_an_observation_is_the_mean_over_its_metrics(self):
        rows = [("a", "nDCG@10", 0.1), ("a", "MRR@10", -0.3), ("b", "nDCG@10", 0.15), ("b", "MRR@10", 0.15)]
        table = pd.DataFrame(rows, columns=["candidate", "metric", "error"])
        table = choose(table.assign(objective="listwise", rungs_fitted=2))
        assert table["candidate"].tolist() == ["b", "a"]
        assert table["loss"].tolist() == pytest.approx([0.15, 0.2])

    def test_one_observation_tells_nothing_apart(self):
        table = judged({"a": [0.01], "b": [0.5], "c": [0.2]})
        assert table["candidate"].tolist() == ["a", "c", "b"]
        assert table["kept"].all()
        assert table["doubt"].isna().all()

    def test_on_a_known_ladder_pooled_laws_are_kept(self, past):
        table = choose(past).set_index("candidate")
        assert table["observations"].eq(4).all()
        assert table.index[0].endswith("pooled")
        assert table.loc[table.index[0], "kept"]


class TestCombined:
    def test_variances_are_averaged_and_that_of_the_centres_is_added(self):
        centres = np.array([[1.0, 5.0], [3.0, 5.0]])  # ±1 around their mean, and equal
        centre, sd = combined(centres, np.array([[0.3, 2.0], [0.4, 4.0]]))
        assert centre == pytest.approx([2.0, 5.0])
        assert sd**2 == pytest.approx([(0.09 + 0.16) / 2 + 1.0, (4 + 16) / 2])

    def test_it_is_the_mixtures_own_moments(self):
        centres, sds = np.array([[0.2], [0.5], [0.4]]), np.array([[0.1], [0.2], [0.05]])
        rng = np.random.default_rng(0)
        sample = rng.normal(centres, sds, (3, 200_000))
        centre, sd = combined(centres, sds)
        assert (centre[0], sd[0]) == pytest.approx((sample.mean(), sample.std()), rel=0.01)


class TestForecast:
    def halves(self, average, reach, at=LARGE):
        """Distance from the centre to each end on the scale, (kinds, 2)."""
        made = average.forecast(at, reach=reach)
        centre, lo, hi = (average.series.on_scale(made[name]) for name in ("forecast", "lo", "hi"))
        return np.stack([centre - lo, hi - centre], axis=1)

    def test_the_reach_widens_intervals_linearly_on_the_scale(self, found):
        one = self.halves(found[0], [1.0, 1.0])
        assert one[:, 0] == pytest.approx(one[:, 1])
        assert self.halves(found[0], [3.0, 3.0]) == pytest.approx(3 * one)

    def test_each_kind_has_its_own_reach(self, found):
        one, other = self.halves(found[0], [1.0, 1.0]), self.halves(found[0], [2.0, 5.0])
        assert other == pytest.approx(one * [[2], [5]])

    def test_a_new_run_is_less_certain_than_the_law(self, found):
        mean_law, new_run = self.halves(found[0], [2.0, 2.0])
        assert (new_run > mean_law).all()
        noise = [d.between_sd**2 + d.within_sd**2 for d in found[0].laws.values()]
        assert new_run[0] ** 2 - mean_law[0] ** 2 == pytest.approx(4 * np.mean(noise))

    def test_intervals_stay_within_the_limits(self, found):
        made = found[0].forecast(LARGE, reach=[1e4, 1e4])
        assert made["lo"].tolist() == [0, 0]
        assert made["hi"].to_numpy() == pytest.approx(LIMITS[1])
        assert (made["hi"] <= LIMITS[1]).all()

    def test_the_centre_is_the_laws_average_on_the_scale(self, found):
        values = [draws.fit.predict(LARGE["N"], LARGE["D"]) for draws in found[0].laws.values()]
        made = found[0].forecast(LARGE)
        assert found[0].series.on_scale(made["forecast"]) == pytest.approx(np.mean(found[0].series.on_scale(values)))
        assert set(made["status"]) == {"size, pooled + joint, pooled"}
        assert set(made["rung"]) == {"large"}

    def test_a_law_alone_is_its_own_average(self, found):
        name, draws = next(iter(found[0].laws.items()))
        made = Average(found[0].series, {name: draws}).forecast(LARGE)
        assert made["forecast"].to_numpy() == pytest.approx(draws.fit.predict(LARGE["N"], LARGE["D"])[0])

    def test_laws_that_pass_through_every_run_know_only_the_limits(self, two):
        short = [one.below(RUNGS[2]) for one in two]
        made = kept_averages(short, [Candidate("size", True)], PRIOR, draws=20)[0].forecast(LARGE)
        assert set(made["lo"]) == {LIMITS[0]}
        assert set(made["hi"]) == {LIMITS[1]}

    def test_the_truth_is_near(self, found):
        truth = LAW.predict(TRUTH, LARGE["N"], LARGE["D"])[0]
        for one in found:
            made = one.forecast(LARGE).set_index("kind")
            assert made["forecast"].to_numpy() == pytest.approx(truth, rel=0.05)
            assert ((made["lo"] <= truth) & (truth <= made["hi"])).all()


class TestCalibrated:
    def test_other_simulations_are_held_in_by_about_the_wanted_share(self, calibration):
        assert calibration.simulations >= 30
        assert calibration.coverage.shape == (2, 2)
        assert ((calibration.coverage >= 0.85) & (calibration.coverage <= 1)).all()

    def test_the_reach_is_never_less_than_students_t_of_all_runs(self, found, calibration):
        """Four runs and two coefficients that only runs can tell, in either series."""
        assert [one.degrees for one in found] == [2, 2]
        assert all(t_quantile(0.95, 4) <= reach < 8 for reach in calibration.reach)

    def test_the_same_seed_finds_the_same(self, found, calibration):
        again = calibrated(found, [LARGE] * 2, KEPT, PRIOR, simulations=60)
        assert again.reach == calibration.reach
        assert (again.coverage == calibration.coverage).all()

    def test_a_lower_level_reaches_less_far_and_holds_less(self, found, calibration):
        half = calibrated(found, [LARGE] * 2, KEPT, PRIOR, level=0.5, simulations=60)
        assert all(low < high / 2 for low, high in zip(half.reach, calibration.reach, strict=True))
        assert half.coverage.mean() < calibration.coverage.mean() - 0.1

    def test_intervals_that_reach_so_far_hold_the_known_law_and_a_new_run(self, calibration):
        """Fresh studies of the same design, not simulated by what is tested."""
        rng, inside = np.random.default_rng(5), []
        mean = LAW.predict(TRUTH, LARGE["N"], LARGE["D"], scale="gap")[0]
        for seed in range(30):
            both = [series(100 + seed), series(200 + seed, name="pointwise")]
            for one in kept_averages(both, KEPT, PRIOR, draws=60):
                made = one.forecast(LARGE, reach=calibration.reach).sort_values("kind")
                truth = LAW.from_scale(mean + np.array([0, rng.normal(0, np.hypot(0.01, 0.01))]))
                inside.append((made["lo"] <= truth) & (truth <= made["hi"]))
        assert (np.mean(inside, axis=0) >= 0.85).all()


def test_the_ladders_past_has_intervals_from_the_fourth_rung_on(two):
    made = expanding_intervals(two, KEPT, PRIOR, 0.95, draws=50, simulations=10)
    assert set(made["rung"]) == {f"{RUNGS[3]:g}"}
    assert set(made["rungs_fitted"]) == {3}
    assert len(made) == 2 * 2
    assert made["error"].to_numpy() == pytest.approx((made["forecast"] - made["actual"]).to_numpy())
    assert made["covered"].tolist() == made["actual"].between(made["lo"], made["hi"]).tolist()
    changed = expanding_intervals([scaled(one, [3], 0.7) for one in two], KEPT, PRIOR, 0.95, draws=50, simulations=10)
    columns = ["forecast", "lo", "hi"]
    pd.testing.assert_frame_equal(made[columns], changed[columns])


def test_the_interval_score_by_hand():
    """Width, and 2/(1 − level) = 40 or 20 times what the truth lies outside."""
    made = pd.DataFrame({"lo": [0.2, 0.2, 0.2, 0.2], "hi": [0.5, 0.5, 0.5, 0.5], "level": [0.95, 0.95, 0.95, 0.9]})
    score = interval_score(made, np.array([0.3, 0.1, 0.51, 0.1]))
    assert score == pytest.approx([0.3, 0.3 + 40 * 0.1, 0.3 + 40 * 0.01, 0.3 + 20 * 0.1])
    assert np.isnan(interval_score(made, np.array([np.nan, 0, 0, 0]))[0])
