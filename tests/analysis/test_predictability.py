"""Series that can be forecast from their runs, and those that cannot, each with its reason and what can be instead."""

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.analysis.fit import fit_study
from rankscale_utils.analysis.forecast import seal_study
from rankscale_utils.analysis.predictability import judge_study
from rankscale_utils.analysis.results import read_table
from rankscale_utils.report import verdicts as page
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study

SIZES = dict(zip(("17m", "32m", "68m", "150m", "400m"), 4e6 * 3.0 ** np.arange(5), strict=True))
RISING = dict(zip(SIZES, (0.30, 0.36, 0.40, 0.425, 0.44), strict=True))
FLAT = dict(zip(SIZES, (0.31, 0.312, 0.30, 0.311, 0.31), strict=True))


def rows(objective="listwise", metric="nDCG@10", values=RISING, judged=None, seeds=2):
    """Two seeds a rung, a thousandth on either side of the value."""
    return pd.DataFrame(
        [
            {"objective": objective, "rung": rung, "params": size, "seed": seed, "exposure": 1000, "collection": "dev",
             "metric": metric, "value": values[rung] + 0.001 * (-1) ** seed, "judged@10": (judged or {}).get(rung)}
            for rung, size in SIZES.items() for seed in range(seeds)
        ]
    )  # fmt: skip


@pytest.fixture
def verdicts(tmp_path, monkeypatch):
    """Return what judges tables as a study of a CSV: verdicts by objective and metric, and the study."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)

    def judge(*tables, metrics="[]"):
        pd.concat(tables).to_csv(tmp_path / "ladder.csv", index=False)
        fields = f"held_out: {{rungs: [400m]}}\nforecasting: {{draws: 100, metrics: {metrics}}}\n"
        (tmp_path / "mine.yaml").write_text(f"measurements: ladder.csv\n{fields}", encoding="utf-8")
        study = load_study(tmp_path / "mine.yaml")
        return judge_study(study, fit_study(study)).set_index(["objective", "metric"]), study

    return judge


def test_a_metric_that_does_not_rise_beyond_its_noise_is_named_with_the_one_that_does(verdicts):
    table, study = verdicts(rows(), rows(metric="AP", values=FLAT))
    assert table["predictable"].tolist() == [True, False]
    flat = table.loc["listwise", "AP"]
    assert flat["reason"].startswith("it rises with size by ")
    assert flat["instead"] == "nDCG@10"
    assert flat[["smallest", "largest"]].tolist() == pytest.approx([0.31, 0.311])
    [said] = page.verdict_sentences(table.reset_index())
    assert said.startswith("Not predictable from these runs: AP of listwise, for it rises with size by ")
    assert said.endswith(" such ladders. nDCG@10 of the same runs is.")
    seal_study(study, fit_study(study))
    written = read_table(paths.predictability_file(study.folder))
    assert written["predictable"].tolist() == [True, False]


def test_a_ladder_that_turns_back_is_not_predictable(verdicts):
    peak = RISING | {"150m": 0.37}
    table, _ = verdicts(rows(), rows(metric="AP", values=peak))
    assert table.loc["listwise", "AP"]["reason"] == ("it rises up to 68m and is worse on 150m by more than its noise")


def test_judgments_that_thin_out_by_as_much_as_the_metric_gains_are_a_reason(verdicts):
    thinner = dict(zip(SIZES, (0.95, 0.85, 0.78, 0.70, 0.6), strict=True))
    table, _ = verdicts(rows(judged=thinner))
    reason = table.loc["listwise", "nDCG@10"]["reason"]
    assert "(95% on the smallest, 70% on the largest)" in reason
    less = dict(zip(SIZES, (0.95, 0.94, 0.93, 0.92, 0.9), strict=True))
    table, _ = verdicts(rows(judged=less))
    assert table.loc["listwise", "nDCG@10"]["predictable"]
    assert table.loc["listwise", "nDCG@10"]["judged_largest"] == pytest.approx(0.92)


def test_judgments_may_be_a_metric_of_their_own(verdicts):
    thinner = dict(zip(SIZES, (0.95, 0.85, 0.78, 0.70, 0.6), strict=True))
    table, _ = verdicts(rows(), rows(metric="judged@10", values=thinner), metrics="[nDCG@10]")
    assert "judgment on larger rungs (95% on the smallest, 70%" in table.loc["listwise", "nDCG@10"]["reason"]


def test_judgments_of_one_rung_alone_say_nothing(verdicts):
    of_one = rows(metric="judged@10", values=RISING).query("rung == '17m'")
    table, _ = verdicts(rows(), of_one, metrics="[nDCG@10]")
    row = table.loc["listwise", "nDCG@10"]
    assert row["predictable"]
    assert np.isnan(row["judged_largest"])


def test_objectives_that_cross_are_said_to(verdicts):
    other = dict(zip(SIZES, (0.34, 0.36, 0.37, 0.375, 0.38), strict=True))
    table, _ = verdicts(rows(), rows("pointwise", values=other))
    assert table["decision_accuracy"].tolist() == [0, 0]
    assert table["pairs"].tolist() == [1, 1]
    [said] = page.verdict_sentences(table.reset_index())
    assert said.endswith("it orders no more than half alike, by nDCG@10 on dev (0% of 1).")
    above = {rung: value + 0.03 for rung, value in RISING.items()}
    table, _ = verdicts(rows(), rows("pointwise", values=above))
    assert table["decision_accuracy"].tolist() == [1, 1]
    assert page.verdict_sentences(table.reset_index()) == []
