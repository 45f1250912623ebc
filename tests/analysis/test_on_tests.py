import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rankscale_utils.analysis.on_tests import rungs_on_tests
from rankscale_utils.analysis.results import read_table
from rankscale_utils.machine.files import write_parquet
from rankscale_utils.study import paths
from tests.conftest import use_root, write_tiny

PLACE = {"metric": "nDCG@10", "collection": "a/test", "task": "rerank", "score": "own", "excluded": ""}
QUERIES = 30


def test_a_rung_stands_beside_other_orders_with_paired_intervals(tmp_path, monkeypatch):
    use_root(monkeypatch, tmp_path)
    objectives = {"listwise": {"seeds": [0, 1], "learning_rate": {"base": 3.0e-3}}}
    study, rng, measured, known = write_tiny(tmp_path, objectives=objectives), np.random.default_rng(0), [], {}
    first_stage, random_order = rng.random(QUERIES), rng.random(QUERIES) / 2
    for run in study.runs:
        size = {"w4": 4.0, "w6": 6.0, "w8": 8.0, "w12": 12.0}[run.rung]
        labels = {"run": run.name, "objective": "listwise", "rung": run.rung, "seed": run.seed} | PLACE
        labels |= {"params_non_embedding": size}
        tables = []
        for exposure in (240.0, 960.0):
            values = np.clip(first_stage + rng.normal(0.05, 0.1, QUERIES), 0, 1)
            known[run.rung, run.seed, exposure] = values
            orders = {"first_stage": first_stage, "random_order": random_order}
            of_queries = pd.DataFrame({"query_id": range(QUERIES), "value": values} | orders)
            tables.append(of_queries.assign(**labels, exposure=exposure))
            means = {name: values.mean() for name, values in orders.items()}
            measured.append(labels | {"exposure": exposure, "value": values.mean()} | means)
        write_parquet(paths.per_query_file(study.run_folder(run)), pd.concat(tables, ignore_index=True))
    table = rungs_on_tests(study, pd.DataFrame(measured))
    assert table["rung"].tolist() == ["w4", "w6", "w8", "w12"]
    assert table[["runs", "queries", "exposure"]].iloc[0].tolist() == [2, QUERIES, 960]
    for row in table.itertuples():
        values = (known[row.rung, 0, 960.0] + known[row.rung, 1, 960.0]) / 2  # seeds are averaged, not queries more
        assert row.value == pytest.approx(values.mean())
        for other, name in ((first_stage, "over_first_stage"), (random_order, "over_random")):
            apart = values - other
            low, high = stats.ttest_1samp(apart, 0).confidence_interval(0.95)
            found = [getattr(row, f"{name}{end}") for end in ("", "_lo", "_hi")]
            assert found == pytest.approx([apart.mean(), low, high])
    pd.testing.assert_frame_equal(read_table(paths.rungs_on_tests_file(study.folder)), table, check_dtype=False)


def test_measurements_without_single_queries_have_no_intervals(tmp_path, monkeypatch):
    use_root(monkeypatch, tmp_path)
    study = write_tiny(tmp_path).model_copy(update={"objectives": {}})  # no runs, as where a CSV is brought
    row = {"run": "listwise-w4-s0", "objective": "listwise", "rung": "w4", "params_non_embedding": 4.0} | PLACE
    rows = [row | {"exposure": exposure, "value": exposure / 1000, "first_stage": 0.5} for exposure in (240.0, 960.0)]
    found = rungs_on_tests(study, pd.DataFrame(rows)).iloc[0]
    assert (found["value"], found["over_first_stage"]) == pytest.approx((0.96, 0.46))
    assert found[["over_first_stage_lo", "random_order", "over_random_hi"]].isna().all()
