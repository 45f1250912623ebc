import numpy as np
import pandas as pd
import pytest

from rankscale_utils.report import first_screen, tests_table
from rankscale_utils.report.first_screen import Tile
from rankscale_utils.study.study import Study
from tests.report.html import cells

KEYS = {"metric": "nDCG@10", "collection": "a/test", "task": "rerank", "score": "own"}
STUDY = Study.model_construct(forecasting=Study.model_fields["forecasting"].default)
EXPONENTS = pd.DataFrame([KEYS | {"objective": "listwise", "b": 0.47, "b_lo": 0.18, "b_hi": 0.76,
                                  "favours": "undecided", "law": "led by the prior"}])  # fmt: skip
NEXT = pd.DataFrame([{"kind": "another seed", "rung": "w24", "N": 1225.0, "D": 40000.0, "objective": "listwise",
                      "flops": 4.5e10, "half_width_now": 0.0184, "half_width_after": 0.0182}])  # fmt: skip


PAST = pd.DataFrame(
    {"objective": "listwise", "rung": ["w16", "w24"] * 6, "kind": ["new_run"] * 6 + ["mean_law"] * 6,
     "covered": [True] * 5 + [False] * 7}
)  # fmt: skip


def forecast(objective: str, value: float, **other: object) -> dict:
    row = {"objective": objective, "rung": "w48", "params": 48.0, "law": "average", "kind": "new_run", "level": 0.95}
    row |= {"forecast": value, "lo": value - 0.03, "hi": value + 0.03, "coverage": 0.935, "past_coverage": 1.0}
    row |= {"past_intervals": 18, "actual": 0.31, "covered": 1.0, "skill": -0.1, "skill_to_p0": 0.5}
    return KEYS | row | other


def on_tests(*rows: dict) -> pd.DataFrame:
    row = {"objective": "listwise", "rung": "w48", "params_non_embedding": 48.0, "value": 0.31, "first_stage": 0.358}
    row |= {"over_first_stage": -0.048, "over_first_stage_lo": -0.06, "over_first_stage_hi": -0.03}
    row |= {"random_order": 0.12, "over_random": 0.19, "over_random_lo": 0.17, "over_random_hi": 0.21}
    return pd.DataFrame([KEYS | row | other for other in rows])


def tiles(scored: list[dict], tests: pd.DataFrame, exponents: pd.DataFrame = EXPONENTS, **more) -> list[Tile]:
    tables = {"on_tests": tests, "exponents": exponents, "within_budget": pd.DataFrame(), "next_runs": NEXT}
    tables |= {"verdicts": pd.DataFrame(), "past": PAST} | more
    return first_screen.tiles(STUDY, pd.DataFrame(scored), "nDCG@10", tables)


def test_the_first_tile_says_what_the_best_objective_will_score_and_how_such_intervals_held():
    scored = [
        forecast("pointwise", 0.318),
        forecast("listwise", 0.322),
        forecast("listwise", 0.3, rung="w24", params=24),
    ]
    tile = tiles(scored, on_tests({}))[0]
    assert (tile.question, tile.answer, tile.mood) == ("What will w48 score, trained listwise?", "0.3220", "good")
    assert tile.sentences == [
        "nDCG@10 on a/test, 95% interval 0.2920 – 0.3520 for one new run. Such intervals held the truth 94 times in "
        "100 on ladders of others.",
        "Measured since: 0.3100, inside the interval.",
        "Other objectives: pointwise 0.3180.",
    ]


def test_the_second_tile_weighs_intervals_no_change_p0_and_the_first_stage():
    scored = [forecast("listwise", 0.322), forecast("listwise", 2.5, metric="CE19", covered=0.5)]
    tile = tiles(scored, on_tests({}, {"rung": "w24"}))[1]
    assert (tile.answer, tile.mood) == ("No: neither held", "bad")
    assert tile.sentences == [
        "Intervals held in 1 of 2 forecasts of all metrics and tests, of 1 model; in the ladder's own past 5 of 6, of "
        "2 models.",
        "Nearer than “no change” in 0 of 1 forecast of nDCG@10 on a/test, and than P0 in 1 of 1 forecast.",
        "Above the first stage: 0 of 2 models on a/test.",
    ]
    told = [("listwise", True), ("pointwise", False)]
    verdicts = pd.DataFrame([KEYS | {"objective": objective, "predictable": able} for objective, able in told])
    tile = tiles([forecast("listwise", 0.322, skill=0.5)], on_tests({}), verdicts=verdicts)[1]
    assert (tile.answer, tile.mood) == ("Yes, for listwise: interval and trend held", "good")
    assert tile.sentences[-1] == "Not predictable from these runs: pointwise, see below."
    tile = tiles([forecast("pointwise", 0.322, skill=0.5)], on_tests({}), verdicts=verdicts)[1]
    assert (tile.answer, tile.mood) == ("It held, though these runs could not tell", "open")
    unopened = forecast("listwise", 0.322, actual=np.nan, covered=np.nan, skill=np.nan, skill_to_p0=np.nan)
    assert tiles([unopened], on_tests({}))[1].answer == "Not tested yet"


def test_the_third_tile_says_what_to_train_next_where_spending_cannot_be_told():
    tile = tiles([forecast("listwise", 0.322)], on_tests({}))[2]
    assert tile.answer == "Cannot be told yet"
    assert tile.sentences[0].startswith(
        "Larger model or more data: undecided for listwise, as the interval of b = 0.47 [0.18, 0.76] holds"
    )
    assert tile.sentences[0].endswith("a law led by the prior.")
    assert tile.sentences[1] == first_screen.OF_B
    assert tile.sentences[2].startswith(
        "Train this next: another seed of w24, 1.22k non-embedding parameters trained on 40k pairs (listwise, "
        "45 billion FLOPs"
    )


def test_objectives_that_differ_are_both_named():
    sides = pd.concat([EXPONENTS.assign(favours="size"), EXPONENTS.assign(objective="pointwise", favours="data")])
    tile = tiles([forecast("listwise", 0.322)], on_tests({}), sides)[2]
    assert (
        tile.sentences[0] == "Larger model or more data: objectives differ, size for listwise and data for pointwise."
    )
    mixed = pd.concat(
        [EXPONENTS.assign(favours="size", b=0.3, b_lo=0.2, b_hi=0.4), EXPONENTS.assign(objective="pairwise")]
    )
    tile = tiles([forecast("listwise", 0.322)], on_tests({}), mixed)[2]
    assert "undecided for pairwise, as the interval of b = 0.47 [0.18, 0.76] holds a half" in tile.sentences[0]


def test_an_even_division_is_an_answer_too():
    even = EXPONENTS.assign(favours="both", b=0.5, b_lo=0.45, b_hi=0.58, law="converged")
    tile = tiles([forecast("listwise", 0.322)], on_tests({}), even)[2]
    assert (tile.answer, tile.mood) == ("Into both alike", "good")
    assert "all of b = 0.50 [0.45, 0.58], listwise, lies between 0.4 and 0.6" in tile.sentences[0]


def test_an_advice_beyond_what_was_measured_says_so():
    sure = EXPONENTS.assign(favours="data", b_lo=0.6, b_hi=0.8, b=0.7, law="converged")
    within = pd.DataFrame(
        [KEYS | {"status": "at 10 times the longest exposure fitted, where what these runs tell ends"}]
    )
    tile = tiles([forecast("listwise", 0.322)], on_tests({}), sure, within_budget=within)[2]
    assert (tile.answer, tile.mood) == ("Into more training data", "good")
    assert tile.sentences[1].startswith(
        "How much of either: the best use of the study's budget is at 10 times the longest"
    )
    near = tiles([forecast("listwise", 0.322)], on_tests({}), sure, within_budget=within.assign(status="inside"))[2]
    assert len(near.sentences) == 1


def test_the_first_sentence_says_when_nothing_beats_the_first_stage():
    said = first_screen.against_first_stage(on_tests({}, {"rung": "w24", "value": 0.3}))
    assert said == [
        "No model here ranks better than the first stage: its own order scores nDCG@10 0.3580 on a/test, the best of 2 "
        "models, w48 trained listwise, 0.3100."
    ]
    better = {"collection": "b/test", "over_first_stage": 0.1, "over_first_stage_lo": 0.05, "over_first_stage_hi": 0.2}
    assert first_screen.against_first_stage(on_tests({}, better, {"collection": "c/test"}))[0].endswith(
        "Some model is better than it on 1 of 2 other tests: b/test."
    )
    assert first_screen.against_first_stage(on_tests({}, {"collection": "c/test"}))[0].endswith(
        "On the other test no model is better than it."
    )
    mean = better | {"collection": "mean of tests", "over_first_stage_lo": np.nan}  # of no queries, and so no interval
    assert first_screen.against_first_stage(on_tests({}, mean)) == first_screen.against_first_stage(on_tests({}))
    assert first_screen.against_first_stage(on_tests({}).drop(columns="first_stage")) == []


@pytest.mark.parametrize(("lo", "hi", "mark"), [(-0.06, -0.03, "▼"), (-0.01, 0.03, "○"), (0.01, 0.03, "▲")])
def test_every_test_has_a_row_and_every_rung_a_column(lo, hi, mark):
    table = on_tests(
        {"over_first_stage_lo": lo, "over_first_stage_hi": hi}, {"rung": "w8", "params_non_embedding": 8.0}
    )
    head, row = cells(tests_table.tests_table(table))
    assert head == ["test", "objective", "first stage", "random order", "w8", "w48"]
    assert row[:4] == ["a/test", "listwise", "0.3580", "0.1200"]
    assert row[5] == f"0.3100{mark} -0.048 [{lo:+.3f}, {hi:+.3f}]▲ +0.190 [+0.170, +0.210]"


def test_without_values_of_single_queries_there_are_no_intervals():
    ends = dict.fromkeys(["over_first_stage_lo", "over_first_stage_hi", "over_random_lo", "over_random_hi"], np.nan)
    _, row = cells(tests_table.tests_table(on_tests(ends).assign(random_order=np.nan)))
    assert row == ["a/test", "listwise", "0.3580", "0.3100-0.048"]
