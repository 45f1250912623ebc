"""A run that was moved is found, others are not; a run that falls at the end is past its best."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.laws import Series, best_so_far, known
from rankscale_utils.laws.strange_runs import beliefs_by_others, far_runs, past_best

from .test_averaging import ladder

SIZES = 4e6 * 2.5 ** np.arange(5)


def moved(series, run, by):
    table = series.table
    return replace(series, table=table.assign(value=table["value"] * np.where(table["run"] == run, by, 1.0)))


@pytest.mark.parametrize("seed", range(3))
def test_a_run_beside_another_of_its_rung_is_found_and_no_other(seed):
    strange = f"{SIZES[2]:g}-0"
    series = ladder("additive", seed, seeds=2, sizes=SIZES)
    assert far_runs(series, known()).empty
    found = far_runs(moved(series, strange, 0.9), known())
    assert found["run"].tolist() == [strange]
    (row,) = found.to_dict("records")
    rung = series.last[series.last["N"] == SIZES[2]]["value"]
    assert row["expected"] == pytest.approx(rung.mean(), rel=0.02)
    assert row["value"] < row["lo"]


def test_series_of_other_runs_tell_how_far_is_far():
    """One run a rung: alone five runs hardly know their noise, beside ten of other objectives they do."""
    three = [
        replace(one, table=one.table.assign(run=f"{name}-" + one.table["run"]), labels={"objective": name})
        for name, one in zip("abc", (ladder("additive", seed, sizes=SIZES) for seed in (0, 100, 200)), strict=True)
    ]
    strange = f"a-{SIZES[2]:g}-0"
    three[0] = moved(three[0], strange, 0.9)
    believed = beliefs_by_others(three, known())
    assert believed[0].run_noise.median < known().run_noise.median
    assert far_runs(three[0], believed[0])["run"].tolist() == [strange]
    assert far_runs(three[1], believed[1]).empty
    copies = [three[0], replace(three[0], labels={"objective": "a", "metric": "AP"})]
    assert beliefs_by_others(copies, known()) == [known(), known()]  # the same runs tell one another nothing


def training(fall=0.0, rising=True, noise=0.002):
    exposures, rows = np.geomspace(1e4, 3.2e5, 12), []
    for seed, size in enumerate(SIZES):
        curve = 0.4 - 0.1 * (exposures / 1e4) ** -0.4 + 0.02 * seed
        curve[-4:] -= fall * (size == SIZES[1]) * np.arange(1, 5) / 4
        value = curve * (1 + noise * np.random.default_rng(seed).normal(size=12))
        rows += [
            {"run": f"w{seed}", "rung": f"w{seed}", "N": size, "D": exposure, "exposure": exposure,
             "value": number if rising else 1 - number}
            for exposure, number in zip(exposures, value, strict=True)
        ]  # fmt: skip
    return Series(
        {}, pd.DataFrame(rows), rising, (0.0, 1.0) if rising else (0.0, np.inf), "arcsine" if rising else "gap"
    )


@pytest.mark.parametrize("rising", [True, False])
def test_a_run_that_falls_at_its_end_is_past_its_best_and_others_are_not(rising):
    assert past_best(training(rising=rising), known()).empty
    (row,) = past_best(training(0.06, rising), known()).to_dict("records")
    table = training(0.06, rising).table.query("run == 'w1'")
    best = table["value"].max() if rising else table["value"].min()
    assert (row["run"], row["best"], row["value"]) == ("w1", best, table["value"].iloc[-1])
    assert row["best_exposure"] == table.loc[table["value"] == best, "D"].item()
    assert row["exposure"] == 3.2e5


@pytest.mark.parametrize(("rising", "expected"), [(True, [4, 1, 3, 3]), (False, [1, 1, 1, 1])])
def test_the_best_so_far_is_a_runs_own_whatever_the_order_of_rows(rising, expected):
    table = pd.DataFrame({"run": "a", "exposure": [4, 1, 3, 2], "value": [4, 1, 2, 3]})
    table = pd.concat([table, pd.DataFrame({"run": ["b"], "exposure": [2], "value": [9]})], ignore_index=True)
    found = best_so_far(table, rising)
    assert found[found["run"] == "a"]["value"].tolist() == expected
    assert found[found["run"] == "b"]["value"].tolist() == [9]
