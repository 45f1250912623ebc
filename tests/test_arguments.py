"""Every argument of the public functions: what cannot be used is one sentence that names it, its value, a remedy."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import rankscale_utils as rankscale
from rankscale_utils import StudyError

GOOD_RUN, GOOD_QRELS = {"q": {"a": 1.0}}, {"q": {"a": 1}}


@pytest.fixture(scope="module")
def table():
    rows = [
        {"objective": "listwise", "rung": f"{size}m", "params": size * 1e6, "exposure": exposure, "collection": "dev",
         "metric": "nDCG@10", "value": 0.5 - size**-0.5 / 2 - exposure**-0.5}
        for size in (17, 32, 68, 150) for exposure in (1e3, 2e3, 4e3)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def refused(call, *args, **kwargs):
    """Return the one sentence of a refusal."""
    with pytest.raises(StudyError) as caught:
        call(*args, **kwargs)
    said = str(caught.value)
    assert said.endswith(".")
    assert "\n" not in said
    assert len(said) < 300
    return said


@pytest.mark.parametrize("call", [rankscale.read_measurements, rankscale.fit, rankscale.forecast, rankscale.allocate])
@pytest.mark.parametrize(
    ("measurements", "said"),
    [
        (None, "measurements = None: must be a pandas.DataFrame or a file's path."),
        (3, "measurements = 3: must be a pandas.DataFrame or a file's path."),
        ({}, "measurements = {}: must be a pandas.DataFrame or a file's path."),
        ([{"rung": "17m"}], "measurements = [{'rung': '17m'}]: must be a pandas.DataFrame or a file's path."),
        ("", "measurements = '': must be a pandas.DataFrame or a file's path."),
        ("no.csv", "measurements = 'no.csv': there is no such file: correct the path."),
        (Path("/"), "measurements = PosixPath('/'): is a folder: correct the path."),
        (pd.DataFrame(), "measurements is empty: write a line of column names and a row for every measurement."),
    ],
)
def test_measurements(call, measurements, said):
    assert refused(call, measurements) == said


@pytest.mark.parametrize("call", [rankscale.fit, rankscale.forecast])
@pytest.mark.parametrize(
    ("held_out", "said"),
    [
        (5, "held_out = 5: must be a name or a list of names."),
        ([17], "held_out = [17]: must be a list of names, and 17 is no text: write it in quotes."),
        ([None], "held_out = [None]: must be a list of names, and None is no text: write it in quotes."),
        ({"150m": 1}, "held_out = {'150m': 1}: must be a name or a list of names."),
        (["1b"], "held_out.rungs ['1b'] have no row in the measurements, whose rungs are ['17m', '32m', '68m', "
         "'150m']: correct them."),
    ],
)  # fmt: skip
def test_held_out(table, call, held_out, said):
    assert refused(call, table, held_out=held_out) == said


def planned(*rows):
    return pd.DataFrame([{"rung": "1b", "params": 1e9, "exposure": 4e3} | row for row in rows or [{}]])


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ({"rung": "1b"}, "at = {'rung': '1b'}: must be a pandas.DataFrame."),
        ([{"rung": "1b"}], "at = [{'rung': '1b'}]: must be a pandas.DataFrame."),
        (planned().iloc[:0], "at = Empty DataFrame Columns: [rung, params, exposure] Index: []: must have a "
         "row or more."),
        (planned().drop(columns="rung"), "at lacks rung: it has params, exposure; add what is missing."),
        (planned({"objective": "pairwise"}), "at has the column objective, but every series of the measurements is "
         "forecast at every row, for one new run: drop the column, and leave rows of other series out "
         "of the measurements."),
        (planned({}, {"rung": None}), "at, row 1: rung is empty: name every run's rung."),
        (planned({"rung": np.nan}), "at, row 0: rung is empty: name every run's rung."),
        (planned({"params": "1B"}), "at, row 0: params = 1B: must be a positive, finite number."),
        (planned({"exposure": None}), "at, row 0: exposure = None: must be a positive, finite number."),
        (planned({}, {"rung": "2b", "params": 2e9}, {}), "at, rows 0 and 2 both ask for rung 1b at exposure 4000: drop "
         "one of them, as what is forecast is one new run."),
        (planned({"rung": "150m", "params": 150e6}), "at, row 0 asks for rung 150m at exposure 4000, which held_out "
         "forecasts already: drop the row."),
        (planned({}, {"exposure": 8e3, "params": 2e9}), "at, rows 0 and 1: rung 1b has params = 1000000000 and "
         "2000000000: correct one of them, or name another rung."),
        (planned({"rung": "68m", "params": 86e6}), "at, row 0: rung 68m has params = 86000000, but 68000000 in the "
         "measurements: correct one of them, or name another rung."),
    ],
)  # fmt: skip
def test_runs_to_come(table, at, said):
    assert refused(rankscale.forecast, table, held_out=["150m"], at=at) == said


def test_two_columns_of_runs_to_come_of_one_name(table):
    twice = pd.concat([planned(), planned()[["rung"]]], axis=1)
    assert "must name every column once, and has 'rung' twice: rename one of them." in refused(
        rankscale.forecast, table, at=twice
    )


@pytest.mark.parametrize("budgets", ["many", ["1e15"], [None], [[1e15]], {"a": 1}, [], [0.0], [1e15, np.inf], True])
def test_budgets(table, budgets):
    said = refused(rankscale.allocate, table, budgets=budgets)
    assert said == f"budgets = {budgets!r}: each must be a positive, finite number of training FLOPs."


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"prior": 3},
            "forecasting: prior = 3: must be a mapping with wide and size_exponent and exposure_exponent and "
            "size_slope and exposure_slope and run_noise and discrepancy, or some of them.",
        ),
        (
            {"prior": {"discrepancy": -1}},
            "forecasting: prior.discrepancy = -1: input should be greater than or equal to 0.",
        ),
        ({"metrics": 3}, "forecasting: metrics = 3: must be a list."),
        ({"metrics": "AP"}, "metrics ['AP'] have no row in the measurements: name some of nDCG@10."),
        ({"draws": "many"}, "forecasting: draws = 'many': input should be a valid integer, unable to parse string as "
         "an integer."),
        ({"size": None}, "forecasting: size = None: input should be 'params_non_embedding', 'params' or "
         "'flops_per_pair'."),
    ],
)  # fmt: skip
def test_settings(table, settings, said):
    assert refused(rankscale.fit, table, ["150m"], **settings) == said


def test_one_metric_is_a_list_of_it_and_numpys_numbers_are_numbers(table):
    few = {"draws": np.int64(100), "level": np.float64(0.9)}
    made = rankscale.forecast(table, "150m", metrics="nDCG@10", **few)
    assert made["metric"].tolist() == ["nDCG@10"]
    assert made["level"].tolist() == [0.9]


def test_yes_or_no(table):
    assert refused(rankscale.forecast, table, every_law="no") == "every_law = 'no': must be True or False."


@pytest.mark.parametrize("study", [3, None, "", ["demo"]])
def test_studies(study):
    assert refused(rankscale.open_study, study) == f"study = {study!r}: must be a path, as a text or a pathlib.Path."


def test_a_table_that_is_not_there(tiny_study):
    results = rankscale.open_study(tiny_study.source).results()
    said = refused(results.__getitem__, "forecasts")
    assert said.startswith(f"{tiny_study.folder} has no table 'forecasts': those that there are: none yet; `make study")
    with pytest.raises(KeyError):
        results["forecasts"]


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        (None, "documents = None: must be a list of texts, or texts by id: write [TEXT] for a single one."),
        ("x", "documents = 'x': must be a list of texts, or texts by id: write [TEXT] for a single one."),
        ({"a"}, "documents = {'a'}: must be a list of texts, or texts by id: write [TEXT] for a single one."),
        (3, "documents = 3: must be a list of texts, or texts by id: write [TEXT] for a single one."),
        ([], "documents = []: is empty: give the text of one document or more."),
        (["a", None], "documents = ['a', None]: None under 1 is no text: correct it or leave it out."),
        ({"d1": ""}, "documents = {'d1': ''}: '' under 'd1' is no text: correct it or leave it out."),
    ],
)
def test_documents(documents, said):
    assert refused(rankscale.rerank, "no/folder", "query", documents) == said


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"folder": 3}, "folder = 3: must be a path, as a text or a pathlib.Path."),
        ({"query": None}, "query = None: must be a text that is not empty."),
        ({"query": " "}, "query = ' ': must be a text that is not empty."),
        ({"score": ["both"]}, "score = ['both']: an ED2LM has log_likelihood, true_false, both: choose one."),
        ({"device": "gpu"}, "device = 'gpu': torch knows no such device: write cpu, cuda or cuda:1."),
    ],
)
def test_what_reranks(changed, said):
    assert refused(rankscale.rerank, **{"folder": "no/folder", "query": "a", "documents": ["b"]} | changed) == said


def test_a_gpu_that_is_not_there():
    count = torch.cuda.device_count()
    said = refused(rankscale.rerank, "no/folder", "a", ["b"], device=f"cuda:{count}")
    assert said == f"device = 'cuda:{count}': this machine shows {count} GPUs: write cpu, or another number."


@pytest.mark.parametrize("name", ["run", "qrels"])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "None: must be a pandas.DataFrame, a file's path, or numbers as {query: {document: number}}."),
        (["q"], "['q']: must be a pandas.DataFrame, a file's path, or numbers as {query: {document: number}}."),
        ("nope.run", "'nope.run': there is no such file: correct the path."),
        ("/", "'/': is a folder: correct the path."),
        ({"q": 3}, "{'q': 3}: holds 3 for 'q': write {query: {document: number}}."),
    ],
)
def test_rankings_and_judgments(name, value, said):
    assert refused(rankscale.evaluate, **{"run": GOOD_RUN, "qrels": GOOD_QRELS} | {name: value}) == f"{name} = {said}"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"metrics": 3}, "metrics = 3: must be a name or a list of names."),
        ({"metrics": []}, "metrics is empty: name one or more, such as nDCG@10."),
        ({"relevant_from": 0}, "relevant_from = 0: must be a whole number, 1 or more."),
        ({"relevant_from": "1"}, "relevant_from = '1': must be a whole number, 1 or more."),
        ({"per_query": 1}, "per_query = 1: must be True or False."),
    ],
)
def test_how_rankings_are_evaluated(changed, said):
    assert refused(rankscale.evaluate, GOOD_RUN, GOOD_QRELS, **changed) == said


def test_a_gap_in_a_run_is_named():
    run = pd.DataFrame({"query_id": ["q", None], "document_id": ["a", "b"], "score": [1.0, 2.0]})
    assert refused(rankscale.evaluate, run, GOOD_QRELS) == "run, row 1: query_id is empty: fill it in or drop the row."
