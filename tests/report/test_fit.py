from types import SimpleNamespace

import pandas as pd

from rankscale_utils import laws
from rankscale_utils.analysis.sealing import NO_OTHERS
from rankscale_utils.analysis.time_stamps import OWN_CLOCK
from rankscale_utils.report import fit as page
from tests.report.html import cells, records

SEALED = pd.DataFrame(
    {
        "objective": "listwise", "collection": "first", "metric": "AP", "rung": ["w24", "w48", "w48"], "law": "average",
        "kind": ["new_run", "new_run", "mean_law"], "exposure": 960.0, "forecast": 0.5, "lo": 0.4, "hi": 0.6,
        "lo_alone": 0.2, "hi_alone": 0.9, "level": 0.95, "coverage": 0.9, "past_coverage": 0.8, "truth_existed": False,
        "sealed_at": "2026-01-31T12:00:00+00:00", "sealed_sha256": "ab" * 32, "data_sha256": "cd" * 32,
        "other_seals": NO_OTHERS, "clock": OWN_CLOCK,
    }
)  # fmt: skip


def fitted(**changes):
    """Return what pages read of a series: one size law, fitted to four runs."""
    ladder = pd.DataFrame({"run": list("abcd"), "params_non_embedding": [1e3, 2e3, 4e3, 8e3], "exposure": 1e4})
    fit = laws.fit(laws.size_law(rising=False), ladder.assign(value=[4.0, 3.5, 3.2, 3.0], seed=0))
    labels = {"objective": "listwise", "metric": "CE9", "collection": "first"}
    drawn = {"size": SimpleNamespace(fit=fit, between_sd=0.1, within_sd=0.0)}
    return SimpleNamespace(**{"labels": labels, "laws": drawn, "data": {}} | changes)


def test_a_coefficient_that_no_law_has_is_a_dash():
    series = fitted()
    [row] = records(page.coefficients_table([series]))
    assert row["α"] == f"{series.laws['size'].fit.coefficients['alpha']:.3f}"
    assert (row["B"], row["β"]) == ("–", "–")
    assert (row["noise, run"], row["noise, checkpoint"]) == ("0.1000", "0.0000")


def test_the_sealed_table_has_a_row_a_rung_and_other_queries_where_these_are_known():
    rows = records(page.sealed_table(SEALED))
    assert [row["rung"] for row in rows] == ["w24", "w48"]
    assert rows[0]["interval"] == "0.4000 – 0.6000"
    assert (rows[0]["on other ladders"], rows[0]["in the past"]) == ("90%", "80%")
    assert rows[0]["without what is known"] == "0.2000 – 0.9000"
    wider = page.sealed_table(SEALED.assign(query_lo=0.3, query_hi=0.7))
    assert cells(wider)[0] == [*rows[0], "on other queries"]
    assert records(wider)[0]["on other queries"] == "0.3000 – 0.7000"


def test_sentences_say_how_far_sealed_intervals_reach():
    said = page.sealed_sentence(SEALED)
    assert said.startswith("3 forecasts were sealed at 2026-01-31T12:00:00+00:00, by its machine's own clock, ")
    assert "which nobody attests. No held-out run had been trained" in said
    assert "of the measurements: cdcdcdcdcdcdcdcd…. Without what is known of other ladders the 95% intervals" in said
    assert "of one new run would be 3.5 times as wide (median)" in said
    assert "hold for these very test queries" in page.other_queries_sentence(SEALED)
    assert "2.00 times as wide" in page.other_queries_sentence(SEALED.assign(query_lo=0.3, query_hi=0.7))


def test_the_average_is_told_with_what_it_rests_on_and_how_it_fared():
    rows = [("average", 0.01), ("additive", 0.02), ("Kaplan", -0.03)]
    past = pd.DataFrame(
        [
            {"law": law, "relative_error": error * rungs, "rungs_fitted": rungs, "objective": "listwise",
             "kind": "new_run", "weight": 0.5, "no_change": 0.4, "actual": 0.5}
            for law, error in rows for rungs in (3, 4)
        ]
    )  # fmt: skip
    average = SimpleNamespace(weights={"additive": 0.75, "Kaplan": 0.25})
    said = page.average_sentence([fitted(past=past, average=average)])
    assert said.startswith("The average rests on these laws: additive 75%, Kaplan 25%. 2 times a rung")
    assert "the average was wrong by 3.5% in the mean, “no change” by 20.0%" in said
    shown = records(page.judged_table([fitted(past=past)]))
    assert [row["law"] for row in shown] == ["average", "additive", "Kaplan", "no change"]
    assert [row["weight in the average"] for row in shown] == ["–", "50%", "50%", "–"]
    none = fitted(past=past.iloc[:0], average=average)
    assert page.average_sentence([none]).endswith("No rung could be forecast from two smaller ones.")
