"""Windows of checkpoints, and on which scale noise is even."""

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.laws import averaged

LIMITS = (0.0, 0.7)


def a_run(name="b", checkpoints=11, first=0.0):
    """A run whose values are 0, 1, 2 and so on."""
    steps = np.arange(1, checkpoints + 1)
    return pd.DataFrame({"run": name, "rung": f"rung of {name}", "exposure": 100.0 * steps, "value": first + steps - 1})


def test_windows_are_counted_from_the_end_and_the_partial_one_is_dropped():
    windows = averaged(a_run(checkpoints=11), checkpoints=3, burn_in=0)
    assert windows["value"].tolist() == [3, 6, 9]  # of 2-4, 5-7 and 8-10; 0 and 1 fill no window


def test_exposure_is_averaged_geometrically():
    windows = averaged(a_run(checkpoints=4), checkpoints=2, burn_in=0)
    assert windows["exposure"].to_numpy() == pytest.approx([100 * np.sqrt(2), 100 * np.sqrt(12)])


def test_runs_never_share_a_window_and_columns_keep_their_order():
    table = pd.concat([a_run("a", 7), a_run("b", 5, first=100.0)], ignore_index=True)
    windows = averaged(table, checkpoints=3, burn_in=0)
    assert windows.columns.tolist() == table.columns.tolist()
    assert windows["run"].tolist() == ["a", "a", "b"]
    assert windows["rung"].tolist() == ["rung of a", "rung of a", "rung of b"]
    assert windows["value"].tolist() == [2, 5, 103]
    assert windows.index.tolist() == [0, 1, 2]


def test_the_order_of_rows_does_not_matter():
    table = pd.concat([a_run("a", 7), a_run("b", 5)], ignore_index=True)
    shuffled = table.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(averaged(shuffled, 3, 0.1), averaged(table, 3, 0.1))


def test_one_checkpoint_keeps_every_row():
    table = pd.concat([a_run("b"), a_run("a")], ignore_index=True)
    pd.testing.assert_frame_equal(averaged(table, checkpoints=1, burn_in=0), table)


@pytest.mark.parametrize("checkpoints", [1, 2])
def test_burn_in_drops_what_comes_before_its_share_of_the_run(checkpoints):
    windows = averaged(a_run(checkpoints=10), checkpoints=checkpoints, burn_in=0.3)  # from exposure 300, value 2, on
    assert windows["value"].min() == pytest.approx(np.arange(2, 2 + checkpoints).mean())
    assert len(windows) == 8 // checkpoints


def test_burn_in_is_a_share_of_each_runs_own_end():
    windows = averaged(pd.concat([a_run("a", 10), a_run("b", 4)]), checkpoints=1, burn_in=0.5)
    assert windows.groupby("run")["exposure"].min().to_dict() == {"a": 500, "b": 200}


def test_a_run_shorter_than_a_window_has_one_row():
    windows = averaged(pd.concat([a_run("a", 6), a_run("b", 2)]), checkpoints=3, burn_in=0)
    assert windows.groupby("run").size().to_dict() == {"a": 2, "b": 1}
    assert windows.loc[windows["run"] == "b", "value"].tolist() == [0.5]
