import numpy as np
import pandas as pd
import pytest
import torch

from rankscale_utils.collections.tokens import Texts
from rankscale_utils.evaluation import clock as clock_module
from rankscale_utils.evaluation.clock import benchmark_calls, throughput, time_calls
from rankscale_utils.evaluation.depths import quality_by_depth, reranked_to
from rankscale_utils.evaluation.evaluate import evaluate_run
from rankscale_utils.evaluation.metrics import first_stage_scores, metrics_per_query, open_test
from rankscale_utils.evaluation.speed import load_models, measure_study, natural_groups, served_runs, tokenisation_ms
from rankscale_utils.evaluation.trec_runs import scores_of_run
from rankscale_utils.measurements.per_query import over_queries
from rankscale_utils.models.build import build_model
from rankscale_utils.models.checkpoint import load_checkpoint
from rankscale_utils.models.counts import pass_flops
from rankscale_utils.scoring.pairs import score_pairs
from rankscale_utils.scoring.systems import System, cross_encoder_systems
from rankscale_utils.study import paths

CPU = torch.device("cpu")
GROUPS = {2: [(0, np.array([4, 1])), (3, np.array([2, 0]))], 3: [(0, np.array([4, 1, 5])), (3, np.array([2, 0, 6]))]}
KEYED = pd.DataFrame({"name": ["a"], "rung": [""]})


def system(name, score, rung=""):
    return System(name, "family", rung, torch.float32, 10, 0.0, score, lambda query, document, documents: 1.0)


def test_the_ladder_is_the_most_trained_model_of_each_rung_by_size(trained, collection):
    models = load_models(trained, "listwise", collection, CPU)
    assert list(models) == ["w4", "w6", "w8", "w12"]
    for rung, model in models.items():
        last = paths.checkpoint_file(trained.folder / f"listwise-{rung}-s0", 960)
        again = load_checkpoint(build_model(trained, trained.run(f"listwise-{rung}-s0"), 512), last)
        assert all(torch.equal(t, again.state_dict()[name]) for name, t in model.state_dict().items())
        assert not model.training


def test_systems_take_turns_on_the_same_work():
    calls = []
    systems = [system(n, lambda query, rows, n=n: calls.append((n, query, tuple(rows)))) for n in ("a", "b")]
    table = time_calls(systems, GROUPS, repeats=2)
    assert len(calls) == 2 * 2 * 2 * (2 + 1)  # systems × depths × queries × (repeats and the warm-up)
    for depth, place in ((2, 0), (3, 4)):
        work = [(query, tuple(rows)) for query, rows in GROUPS[depth]]
        assert calls[place : place + 4] == [("a", *one) for one in work] + [("b", *one) for one in work]
    assert calls[:8] == calls[8:16] == calls[16:]
    assert table[["name", "depth"]].to_numpy().tolist() == [["a", 2], ["b", 2], ["a", 3], ["b", 3]]
    assert (table["p50_low"] <= table["p50_ms"]).all()
    assert (table["p50_ms"] <= table["p50_high"]).all()
    assert (table["p50_ms"] <= table["p95_ms"]).all()
    assert set(table["repeats"]) == {2}


def test_times_are_those_of_the_clock_without_the_warm_up(monkeypatch):
    # A clock that stands still but for scoring, which takes 1 ms a document, and ten times as long in the first round.
    clock, calls = [0.0], []

    def slow(query_row, document_rows):
        calls.append(1)
        clock[0] += len(document_rows) * (0.01 if len(calls) <= 4 else 0.001)

    monkeypatch.setattr(clock_module.time, "perf_counter", lambda: clock[0])
    table = time_calls([system("slow", slow)], GROUPS, repeats=3)
    for column in ("p50_ms", "p95_ms", "p50_low", "p50_high"):
        assert table[column].to_numpy() == pytest.approx([2, 3])


@pytest.mark.parametrize(("seconds", "repeats"), [(1.0, 5), (7.0, 4), (100.0, 2)])
def test_slow_systems_are_timed_in_fewer_rounds(monkeypatch, seconds, repeats):
    # A round takes so long, and none begins after a minute but for the first three.
    clock = [0.0]

    def slow(query_row, document_rows):
        clock[0] += seconds / 4 * 2

    monkeypatch.setattr(clock_module.time, "perf_counter", lambda: clock[0])
    table = time_calls([system("slow", slow)], GROUPS, repeats=5)
    assert table["repeats"].tolist() == [repeats] * 2


def test_throughput_is_that_of_the_best_batch(monkeypatch):
    # A call takes 10 ms and 1 ms a document, and above 4 documents 5 ms a document.
    clock, calls = [0.0], []

    def slow(query_row, document_rows):
        calls.append((query_row, tuple(document_rows)))
        clock[0] += 0.01 + len(document_rows) * (0.001 if len(document_rows) <= 4 else 0.005)

    monkeypatch.setattr(clock_module.time, "perf_counter", lambda: clock[0])
    table = throughput([system("slow", slow)], [7, 8], np.arange(5), batches=(2, 4, 8), repeats=2)
    row = table.iloc[0]
    assert row["batch"] == 4
    assert row[["pairs_per_second", "pairs_low", "pairs_high"]].tolist() == pytest.approx([8 / 0.028] * 3)
    assert calls[:4] == [(7, (0, 1)), (8, (2, 3)), (7, (4, 0)), (8, (1, 2))]
    assert calls[4:7] == [(7, (0, 1, 2, 3)), (8, (4, 0, 1, 2)), (7, (0, 1, 2, 3, 4, 0, 1, 2))]
    assert len(calls) == 7 * 3


def test_the_cost_of_a_pair_is_the_mean_over_the_candidates(trained, collection):
    test, pairs = open_test(trained, collection), collection.pairs()
    models = load_models(trained, "listwise", collection, CPU)
    systems = [cross_encoder_systems(model, pairs, rung) for rung, model in models.items()]
    groups = natural_groups(test, queries=3, depths=(5, 10))
    table = benchmark_calls(systems, pairs.queries, pairs.documents, groups, batches=(4, 8), repeats=1)
    assert table["rung"].tolist() == [rung for rung in ("w4", "w6", "w8", "w12") for _ in range(2)]
    assert table["depth"].tolist() == [5, 10] * 4
    for (rung, depth), rows in table.groupby(["rung", "depth"]):
        lengths = [pairs.lengths(np.full(len(rows), query), rows) for query, rows in groups[depth]]
        expected = pass_flops(models[rung]).forward(np.concatenate(lengths)).mean()
        assert rows["flops_per_pair"].item() == pytest.approx(expected)
    assert set(table["dtype"]) == {"float32"}
    assert set(table["threads"]) == {torch.get_num_threads()}
    assert (table[["p50_low", "pairs_low"]] > 0).all().all()


def test_throughput_is_over_documents_of_every_length(monkeypatch):
    lengths, seen = np.arange(40) % 7, []
    documents = Texts(np.zeros(lengths.sum(), np.int32), np.concatenate([[0], np.cumsum(lengths)]))
    monkeypatch.setattr(
        clock_module, "throughput", lambda systems, queries, rows, *_: seen.append((queries, rows)) or KEYED
    )
    groups = {5: [(0, np.arange(5))], 40: [(0, np.arange(40)[::-1]), (2, np.arange(30))]}
    benchmark_calls([system("a", lambda *_: None)], documents, documents, groups, batches=(4, 8), repeats=1)
    assert seen[0][0] == [0, 2]
    assert len(seen[0][1]) == 8
    drawn = documents.lengths(seen[0][1])
    assert (np.diff(drawn) >= 0).all()
    assert (drawn[0], drawn[-1]) == (0, 6)


def test_groups_are_the_best_ranked_candidates_as_retrieved(trained, collection):
    test = open_test(trained, collection)
    groups = natural_groups(test, queries=4, depths=(3, 10, 100))
    assert list(groups) == [3, 10]  # the test's depth is 10
    for depth, queries in groups.items():
        assert len(queries) == 4
        for query_row, rows in queries:
            mine = test.candidates[(test.candidates["query_row"] == query_row) & (test.candidates["rank"] <= depth)]
            assert rows.tolist() == mine.sort_values("rank")["document_row"].tolist()


def test_a_shallower_reranking_leaves_the_rest_as_retrieved(trained, collection):
    test = open_test(trained, collection)
    scores = np.random.default_rng(0).normal(size=len(test.candidates))
    perfect = test.candidates["relevance"].to_numpy() * 1e3 + first_stage_scores(test)
    for given in (scores, perfect):
        assert _values(test, reranked_to(test, given, test.depth)) == _values(test, given)
        assert _values(test, reranked_to(test, given, 1)) == _values(test, first_stage_scores(test))
    values = quality_by_depth(test, perfect, "nDCG@10", (1, 3, 10))
    table = over_queries(values, ["depth"]).set_index("depth")["value"]
    assert table.is_monotonic_increasing
    assert table[1] < table[10]


def _values(test, scores):
    return metrics_per_query(test, scores)["value"].tolist()


def test_a_study_is_timed_beside_the_quality_of_what_is_timed(trained, collection):
    measured = pd.concat([evaluate_run(trained, run, collection, CPU) for run in trained.runs])
    table = measure_study(trained, collection, CPU, queries=2, depths=(3,), repeats=1)  # and the test's own
    read = pd.read_csv(trained.folder / "speed.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(read, table, check_dtype=False)
    ways = [(f"w{n}", "cross-encoder") for n in (4, 6, 8, 12)]  # too narrow to gain by integers
    assert table[["rung", "name", "depth"]].to_numpy().tolist() == [[*way, depth] for way in ways for depth in (3, 10)]
    assert table["as_evaluated"].all()
    final = measured[(measured["metric"] == "nDCG@10") & (measured["exposure"] == 960)].set_index("rung")["value"]
    whole = table[table["depth"] == 10].set_index("rung")
    assert whole["value"].to_dict() == pytest.approx(final.to_dict())
    assert ((table["lo"] <= table["value"]) & (table["value"] <= table["hi"])).all()
    assert set(table["collection"]) == set(measured["collection"]) == {"docstrings/test"}


def test_a_runs_scores_rank_as_the_model_does(trained, collection):
    run, test = trained.run("listwise-w8-s0"), open_test(trained, collection)
    evaluate_run(trained, run, collection, CPU)
    _, path = served_runs(trained, "listwise")["w8"]
    rows = [test.candidates[column].to_numpy() for column in ("query_row", "document_row")]
    scores = score_pairs(load_models(trained, "listwise", collection, CPU)["w8"], collection.pairs(), *rows)
    read = scores_of_run(test, path)
    assert _values(test, read) == _values(test, scores)
    assert (np.isnan(read) == ~test.candidates["retrieved"]).all()


def test_tokenising_takes_time_too(trained, collection):
    assert 0 < tokenisation_ms(trained, collection, queries=3) < 10_000
