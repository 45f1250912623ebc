import re

import pytest

from rankscale_utils.machine import progress
from rankscale_utils.machine.progress import EVERY_SECONDS, Progress, say


@pytest.fixture
def clock(monkeypatch):
    """Stand in for the clock: advance it by clock.now."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


def test_in_batch_lines_go_to_the_file_that_is_shown(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("RANKSCALE_PROGRESS", str(tmp_path / "progress.log"))
    say("one")
    say("two")
    assert (tmp_path / "progress.log").read_text() == "one\ntwo\n"
    assert capfd.readouterr() == ("", "")


def test_elsewhere_lines_go_to_standard_error(monkeypatch, capsys):
    monkeypatch.delenv("RANKSCALE_PROGRESS", raising=False)
    say("one")
    assert capsys.readouterr() == ("", "one\n")


def test_in_a_notebook_lines_stand_below_the_cell(monkeypatch, capsys):
    monkeypatch.delenv("RANKSCALE_PROGRESS", raising=False)
    monkeypatch.setattr("IPython.get_ipython", object)
    say("one")
    assert capsys.readouterr() == ("one\n", "")


def test_a_line_says_step_note_rate_and_time_left(clock, monkeypatch):
    said = []
    monkeypatch.setattr(progress, "say", said.append)
    run = Progress("listwise-w8-s0", 10_000, "pairs")
    clock.now += 4
    run.advance(2_000, "loss 1.234")
    assert len(said) == 1
    assert re.sub(" +", " ", said[0]) == "listwise-w8-s0 2,000/10,000 pairs loss 1.234 500 pairs/s 16 s left"
    assert run.rate() == 500


def test_it_speaks_every_few_seconds_and_at_the_end(clock, monkeypatch):
    said = []
    monkeypatch.setattr(progress, "say", said.append)
    run = Progress("run", 100, "pairs")
    for _ in range(100):
        clock.now += EVERY_SECONDS / 10
        run.advance(1)
    assert 9 <= len(said) <= 11
    assert "100/100" in said[-1]


def test_work_done_before_counts_as_done_and_not_as_speed(clock, monkeypatch):
    said = []
    monkeypatch.setattr(progress, "say", said.append)
    run = Progress("run", 1000, "pairs")
    run.skip(600)
    clock.now += 10
    run.advance(100)
    assert re.sub(" +", " ", said[0]) == "run 700/1,000 pairs 10 pairs/s 30 s left"
