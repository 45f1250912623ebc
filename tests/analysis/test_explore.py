"""Choices of one's own: without any the forecast is the sealed one, each does what it says, and nothing is written."""

import numpy as np
import pandas as pd
import pytest

from rankscale_utils import explore, forecast
from rankscale_utils.analysis.explore import DRAWS, open_explorer
from rankscale_utils.analysis.fit import fit_study
from rankscale_utils.analysis.forecast import average_forecasts, seal_study
from rankscale_utils.errors import StudyError
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study

SIZES = {"w8": 1e3, "w10": 2e3, "w12": 4e3, "w16": 8e3, "w24": 16e3, "w48": 32e3}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A ladder of one series with two seeds, whose forecast is sealed."""
    root, rng = tmp_path_factory.mktemp("root"), np.random.default_rng(0)
    rows = [
        {"objective": "listwise", "rung": rung, "params": 4 * N, "params_non_embedding": N, "exposure": D, "seed": seed,
         "collection": "a/test", "metric": "nDCG@10",
         "value": 0.42 - 1.2 * N**-0.3 - 2 * D**-0.4 + rng.normal(0, 2e-3)}
        for rung, N in SIZES.items() for seed in (0, 1) for D in (1e4, 2e4, 4e4, 8e4)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(root / "ladder.csv", index=False)
    (root / "mine.yaml").write_text(
        f"measurements: ladder.csv\nheld_out: {{rungs: [w48]}}\nforecasting: {{draws: {DRAWS}}}\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "ROOT", root)
        patch.setenv("RANKSCALE_RESULTS", "write")
        study = load_study(root / "mine.yaml")
        seal_study(study, fit_study(study))
        yield study


def measured(study):
    return pd.read_csv(study.measurements_file)


def test_without_choices_the_forecast_is_the_sealed_one(study):
    sealed = average_forecasts(seal_study(study, fit_study(study))).iloc[0]
    row = explore(study).forecast.iloc[0]
    assert row[["rung", "forecast", "lo", "hi"]].tolist() == sealed[["rung", "forecast", "lo", "hi"]].tolist()
    truth = measured(study).query("rung == 'w48' and exposure == 8e4")["value"].mean()
    assert row["actual"] == pytest.approx(truth)
    assert row["relative_error"] == pytest.approx((row["forecast"] - truth) / truth)
    assert row["covered"] == (row["lo"] <= truth <= row["hi"])


def test_what_is_left_out_might_never_have_been_measured(study):
    seen = measured(study).query("rung != 'w8' and exposure >= 2e4")
    seen = seen[(seen["seed"] == 0) | (seen["rung"] == "w48")]
    alone = forecast(seen, held_out=["w48"], burn_in=0.0, draws=DRAWS).iloc[0]
    row = explore(study, without_rungs=["w8"], without_seeds=[1], from_exposure=2e4, prior="known").forecast.iloc[0]
    assert row[["forecast", "lo", "hi"]].tolist() == pytest.approx(alone[["forecast", "lo", "hi"]].tolist(), rel=1e-9)


def test_each_choice_moves_what_it_should(study):
    plain = explore(study)
    assert plain.past["rung"].tolist() == ["w16", "w24"]
    assert explore(study, without_rungs=["w8"]).past["rung"].tolist() == ["w24"]
    assert explore(study, without_seeds=[1]).fitted.table["run"].nunique() == 5
    assert explore(study, from_exposure=4e4).fitted.table["exposure"].min() == 4e4
    assert list(explore(study, law="Kaplan").fitted.laws) == ["Kaplan"]
    assert explore(study, scale="value").fitted.average.series.scale == "value"
    alone = forecast(study.measurements_file, held_out=["w48"], draws=DRAWS, prior={"wide": True}).iloc[0]
    row = explore(study, prior="off").forecast.iloc[0]
    assert row[["forecast", "lo", "hi"]].tolist() == pytest.approx(alone[["forecast", "lo", "hi"]].tolist(), rel=1e-9)


def test_curves_go_through_what_is_seen(study):
    curves = explore(study, without_rungs=["w8"]).curves
    assert set(curves.rows["rung"]) == {"w10", "w12", "w16", "w24"}
    assert curves.held_out["rung"].unique().tolist() == ["w48"]
    assert set(curves.lines["along"]) == {"size", "exposure"}


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"metric": "RR@10"}, "metric = 'RR@10': no fitted series of mine; use one of nDCG@10."),
        ({"without_rungs": ["w48"]}, "the fitted rungs are w8, w10, w12, w16, w24; name one of them."),
        ({"without_rungs": ["w8", "w10", "w12"]}, "2 rungs are left, and a law of size needs 3: leave out less."),
        ({"from_exposure": 1e6}, "0 rungs are left"),
        ({"prior": "none"}, "prior = 'none': use one of as the study, known, off."),
        ({"law": "cubic"}, "no law can be fitted under these choices: no form of cubic is a law of N and D"),
        ({"scale": "log"}, "scale = 'log': nDCG@10 can be fitted on value or gap or arcsine; use one of them."),
    ],
)
def test_what_cannot_be_chosen_is_said(study, choices, sentence):
    with pytest.raises(StudyError) as error:
        explore(study, **choices)
    assert sentence in str(error.value)


def test_a_study_without_runs_says_what_is_missing(tiny_study):
    with pytest.raises(StudyError, match="has not been evaluated: run `make study STUDY=tiny` first"):
        explore("tiny")


def test_nothing_is_written(study, tmp_path):
    (tmp_path / "fresh.yaml").write_text(study.source.read_text())
    measured(study).to_csv(tmp_path / "ladder.csv", index=False)
    fresh = load_study(tmp_path / "fresh.yaml")
    open_explorer(fresh)
    explore(fresh, prior="off").curves  # noqa: B018
    assert not fresh.folder.exists()
