"""Repeated data count less: the formula at known points, R* of a ladder whose R* is known, and public runs."""

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.laws import effective_exposure, fit, fit_repeated, joint_law

TRUTH, DECAY = np.array([1.8, 300.0, 0.35, 900.0, 0.4]), 6.0
SIZES, DISTINCT, EPOCHS = (1e6, 4e6, 1.6e7, 6.4e7), (1e5, 4e5, 1.6e6), (1, 2, 4, 8, 16, 32)
LAW = joint_law(rising=False)


def ladder(sizes=SIZES, epochs=EPOCHS, noise=0.002):
    rng, rows = np.random.default_rng(0), []
    for N in sizes:
        for unique in DISTINCT:
            for repeated in epochs:
                worth = effective_exposure(unique * repeated, unique, DECAY)
                value = LAW.predict(TRUTH, N, worth)[0] * (1 + noise * rng.normal())
                run = f"{N:g}-{unique:g}-{repeated}"
                rows.append({"run": run, "N": N, "D": unique * repeated, "unique": unique, "value": value})
    return pd.DataFrame(rows)


def test_data_that_are_not_repeated_are_worth_what_they_are_and_others_ever_less():
    assert effective_exposure([5, 10], 10) == pytest.approx([5, 10])
    assert effective_exposure(1e9, 10, decay=6) == pytest.approx(10 * 7)
    assert effective_exposure(40, 10, decay=6) == pytest.approx(10 + 60 * (1 - np.exp(-0.5)))
    assert effective_exposure(40, 10, decay=1e6) == pytest.approx(40, rel=1e-4)
    with pytest.raises(ValueError, match="decay is 0; give a positive number"):
        effective_exposure(40, 10, decay=0)


def test_the_decay_is_found_and_a_larger_rung_on_repeated_data_is_forecast():
    table, options = ladder(), {"size": "N", "exposure": "D", "scale": "gap"}
    found = fit_repeated(LAW, table, **options)
    assert found.decay == pytest.approx(DECAY, rel=0.15)
    assert found.fit.coefficients["alpha"] == pytest.approx(0.35, abs=0.03)
    larger = ladder((2.56e8,), (16, 32), noise=0.0)
    said = found.predict(larger["N"], larger["D"], larger["unique"])
    assert said == pytest.approx(larger["value"].to_numpy(), rel=0.01)
    blind = fit(LAW, table, **options).predict(larger["N"], larger["D"])
    assert np.abs(blind / larger["value"] - 1).mean() > 3 * np.abs(said / larger["value"] - 1).mean()


def test_a_table_that_repeats_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing is repeated; use `fit` instead"):
        fit_repeated(LAW, ladder(epochs=(1,)), size="N", exposure="D")


def test_public_runs_of_up_to_sixty_epochs_are_told_better_by_a_decay(real_data):
    """Language models of arXiv 2305.16264, up to where each is at its best."""
    table = pd.read_csv(real_data / "ladders" / "data_constrained_train.csv").sort_values("tokens")
    best = table.groupby(["group", "params", "unique_tokens"])["loss"].cummin()
    table = table[(table["loss"] <= best) & (table["tokens"] <= 60 * table["unique_tokens"])]
    table = table.assign(run=np.arange(len(table)).astype(str), value=table["loss"])
    options = {"size": "params", "exposure": "tokens", "scale": "gap"}
    found = fit_repeated(LAW, table, unique="unique_tokens", **options)
    assert 15 < found.decay < 200
    assert found.fit.rmse < fit(LAW, table, **options).rmse
