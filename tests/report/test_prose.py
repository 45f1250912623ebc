import math

import pytest

from rankscale_utils.report.prose import (
    dollars,
    duration,
    listed,
    number,
    p_in_words,
    share_in_words,
    si,
    times,
    with_ends,
)


def test_a_count_that_rounds_to_a_thousand_has_its_prefix():
    assert [si(value) for value in (1, 999.4, 999.9, 999_900.0)] == ["1", "999", "1k", "1M"]


def test_a_count_beyond_what_any_training_could_mean_has_only_its_side():
    assert [si(value) for value in (0.2, 1e18, math.inf)] == ["under 1", "over 1e18", "over 1e18"]


@pytest.mark.parametrize(
    ("write", "values", "said"),
    [
        (dollars, [0, 2.5e-7, 5e-5, 0.01234, 1.5, 12_345], "$0, under $1e-6, $5.00e-05, $0.0123, $1.50, $12.3k"),
        (dollars, [math.nan, math.inf, 2e15], "–, no limit, over $1e15"),
        (times, [1.25, 9.96, 4321, 2e6], "1.2 times, 10.0 times, about 4,300 times, over a million times"),
        (number, [math.nan, math.inf, 0.12345, 12_345], "–, no limit, 0.123, 12,300"),
        (p_in_words, [math.nan, 0.0004, 0.0321], "–, under 0.001, 0.032"),
        (duration, [3.5, 0.2, 0.001], "about 3.5 hours, about 12 minutes, about a minute"),
    ],
)
def test_numbers_in_words(write, values, said):
    assert ", ".join(map(write, values)) == said


def test_words_are_listed_as_prose_lists_them():
    assert [listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_an_interval_stands_beside_its_number_where_there_is_one():
    assert with_ends({"size": 1e4}, "size", si) == "10k"
    assert with_ends({"size": 1e4, "size_lo": 0.5, "size_hi": 2e18}, "size", si) == "10k [under 1, over 1e18]"
    assert with_ends({"size": math.nan, "size_lo": 1, "size_hi": 2}, "size", si) == "–"


@pytest.mark.parametrize(("share", "said"), [(1.0, "100%"), (0.9976, "more than 99%"), (0.98, "98%"), (0.0, "0%")])
def test_a_share_is_all_only_where_nothing_is_left(share, said):
    assert share_in_words(share) == said
