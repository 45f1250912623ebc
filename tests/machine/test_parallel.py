"""Parts of a work come back in order from other processes, and fail as they would in this one."""

import multiprocessing
import os
import signal

import pytest

from rankscale_utils.machine import parallel
from rankscale_utils.machine.parallel import each


@pytest.fixture(autouse=True)
def three_cores(monkeypatch):
    monkeypatch.setattr(parallel, "cores", lambda: 3)


def test_results_are_in_order_and_of_other_processes():
    offset = 10  # closures need not be pickled
    made = each(lambda number, word: (number + offset, word, os.getpid()), range(7), "abcdefg")
    assert [(number, word) for number, word, _ in made] == list(zip(range(10, 17), "abcdefg", strict=True))
    assert os.getpid() not in {process for _, _, process in made}


def test_parts_of_a_part_stay_in_its_process():
    made = each(lambda number: each(lambda other: (number * other, os.getpid()), [1, 2, 3]), [1, 2])
    assert [[product for product, _ in row] for row in made] == [[1, 2, 3], [2, 4, 6]]
    assert [len({process for _, process in row}) for row in made] == [1, 1]


@pytest.mark.parametrize("parts", [[], [4]])
def test_none_and_one_start_no_process(parts):
    assert each(lambda number: (number, os.getpid()), parts) == [(number, os.getpid()) for number in parts]


def test_workers_of_a_pool_compute_alone():
    with multiprocessing.get_context("fork").Pool(1) as pool:
        (made,) = pool.map(doubled, [[1, 2, 3]])
    assert [number for number, _ in made] == [2, 4, 6]
    assert len({process for _, process in made}) == 1


def doubled(numbers):
    return each(lambda number: (2 * number, os.getpid()), numbers)


def test_an_error_is_raised_as_it_was():
    def fails_at(number):
        if number == 3:
            raise ValueError("D is 0 in run 'x'")
        return number

    with pytest.raises(ValueError, match="D is 0 in run 'x'"):
        each(fails_at, range(5))


def test_where_a_process_is_killed_all_parts_are_computed_in_this_one():
    mine = os.getpid()

    def killed_elsewhere(number):
        if number == 2 and os.getpid() != mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return number, os.getpid()

    assert each(killed_elsewhere, range(4)) == [(number, mine) for number in range(4)]


def test_arguments_of_unlike_length_are_refused():
    with pytest.raises(ValueError, match="zip"):
        each(lambda one, other: one, [1, 2], [1])
