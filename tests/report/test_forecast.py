import numpy as np
import pandas as pd

from rankscale_utils.report import figures
from rankscale_utils.report import forecast as page
from tests.report.html import cells, records


def forecast(law, kind, **numbers):
    """Return one scored forecast of a held-out rung that really reached 0.50, where no change would be 0.44."""
    row = {"objective": "listwise", "collection": "first", "metric": "AP", "rung": "w48", "params": 3e4}
    row |= {"task": "rerank", "score": "own"}
    row |= {"law": law, "kind": kind, "level": 0.95, "coverage": 0.9, "past_coverage": 0.8}
    truth = {"actual": 0.5, "persistence": 0.44}
    error, inside = numbers["forecast"] - 0.5, float(numbers["lo"] <= 0.5 <= numbers["hi"])
    scores = {"error": error, "relative_error": error / 0.5, "covered": inside, "interval_score": 0.1,
              "skill": 1 - abs(error) / 0.06, "skill_to_p0": 1 - abs(error) / 0.04}  # fmt: skip
    return row | truth | numbers | scores


SCORED = pd.DataFrame(
    [
        forecast("average", "mean_law", forecast=0.52, lo=0.49, hi=0.55),
        forecast("average", "new_run", forecast=0.52, lo=0.46, hi=0.58),
        forecast("P0 size", "new_run", forecast=0.54, lo=0.53, hi=0.55),
        forecast("no change", "new_run", forecast=0.44, lo=np.nan, hi=np.nan),
    ]
)


def test_ours_stand_beside_the_baselines_the_average_first():
    ours, p0, unchanged = records(page.baselines_table(SCORED))
    assert [row["law"] for row in (ours, p0, unchanged)] == ["average", "P0 size", "no change"]
    assert (ours["mean error"], ours["bias"], ours["inside"], ours["median width"]) == ("4.0%", "+4.0%", "100%", "24%")
    assert (p0["mean error"], p0["inside"]) == ("8.0%", "0%")
    assert (unchanged["bias"], unchanged["inside"], unchanged["median width"]) == ("-12.0%", "–", "–")
    assert page.comparison_sentence(SCORED) == (
        "w48, all metrics and tests: mean absolute error 4.0% of the value, against 8.0% by P0's protocol and 12.0% by "
        "“no change”."
    )


def test_skill_is_of_mean_errors_and_no_lucky_baseline_decides_it():
    lucky = {"average": 0.51, "P0 size": 0.5001, "no change": 0.44}
    rows = pd.DataFrame([forecast(law, "new_run", forecast=at, lo=0.4, hi=0.6) for law, at in lucky.items()])
    both = pd.concat([SCORED, rows.assign(metric="P@5")])
    ours, p0, unchanged = records(page.baselines_table(both))
    assert (ours["skill"], ours["skill to P0"]) == ("+0.75", "+0.25")  # 0.015 of 0.06, and of 0.02005
    assert (p0["skill to P0"], unchanged["skill"]) == ("+0.00", "+0.00")


def test_every_forecast_stands_beside_p0s():
    head, row = cells(page.forecasts_table(SCORED))
    assert row == [
        *("listwise", "AP", "w48", "0.5000", "0.5200", "+4.0%", "0.4600 – 0.5800", "yes"),
        *("0.5400", "+8.0%", "0.5300 – 0.5500", "no", "90%", "80%"),
    ]
    assert head[3:5] == ["measured", "ours"]


def test_sentences_say_what_held():
    assert page.coverage_sentence(SCORED) == (
        "On all metrics and tests, every new run fell inside its 95% interval in 1 of 1 forecast, of 1 model (on "
        "public ladders of others: 90 times in 100); the median interval is 24% of the value wide, and 1 of 1 exclude "
        "“no change”, the largest fitted rung's value."
    )
    unknown = page.coverage_sentence(SCORED.assign(coverage=np.nan))
    assert "in 1 of 1 forecast, of 1 model; the median" in unknown  # a level that was not tried elsewhere
    ours = SCORED[SCORED["law"] == "average"]
    assert "nearer to the truth in 0 of 2 forecasts of AP on" in page.persistence_sentence(ours)


def test_the_figure_shows_forecast_interval_and_truth_of_every_held_out_rung():
    smaller = SCORED.assign(rung="w24")
    [axes] = page.forecast_and_truth(pd.concat([smaller, SCORED, SCORED.assign(metric="P@5")]), ["AP"])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["listwise w24", "listwise w48"]
    new_run, mean, dot, p0_bar, p0, unchanged, truth, *_ = (line for line in axes.lines)
    assert list(new_run.get_xdata()) == [0.46, 0.58]
    assert list(mean.get_xdata()) == [0.49, 0.55]
    assert [line.get_xdata()[0] for line in (dot, p0, unchanged, truth)] == [0.52, 0.54, 0.44, 0.5]
    assert list(p0_bar.get_xdata()) == [0.53, 0.55]
    assert truth.get_color() == figures.HELD_OUT
    low, high = axes.get_xlim()
    assert low < 0.44 < 0.54 < high


def test_other_analyses_stand_in_the_order_of_the_choices():
    choices = {"choice": ["sealed", "checkpoints"], "option": ["as sealed", "1"], "forecast": [0.52, 0.47]}
    analyses = pd.DataFrame(choices).assign(exponent=0.6, objective="listwise", metric="AP", rung="w48")
    forecasts, exponents = page.multiverse_figure(analyses, SCORED)
    assert [label.get_text() for label in forecasts.get_yticklabels()] == ["sealed: as sealed", "checkpoints: 1"]
    truth, dots = forecasts.lines
    assert list(truth.get_xdata()) == [0.5, 0.5]
    assert dots.get_xydata().tolist() == [[0.52, 0], [0.47, 1]]
    assert list(exponents.lines[0].get_xdata()) == [0.6, 0.6]
    assert page.multiverse_sentence(analyses) == (
        "2 analyses. listwise, w48: AP from 0.4700 (checkpoints: 1) to 0.5200 (sealed: as sealed); b, the share "
        "of growing compute that goes into data, from 0.60 to 0.60."
    )
