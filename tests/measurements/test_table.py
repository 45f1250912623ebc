import pandas as pd

from rankscale_utils.measurements.table import headline, headlines


def test_the_headline_is_the_studys_choice_or_the_first_metric_that_rises(new_study):
    table = pd.DataFrame({"metric": ["CE9", "nDCG@10", "AP"]})
    assert headline(new_study(), table) == "nDCG@10"
    assert headline(new_study(forecasting={"headline": "AP"}), table) == "AP"
    assert headline(new_study(forecasting={"headline": "RR@10"}), table) == "nDCG@10"
    assert headlines(new_study(), table) == ["nDCG@10", "CE9"]
