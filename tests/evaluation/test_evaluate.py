import dataclasses
import gzip
import math
from collections import defaultdict

import ir_measures
import numpy as np
import pandas as pd
import pytest
import pytrec_eval
import torch
from safetensors.torch import load_file, save_file

from rankscale_utils.collections import open_collection
from rankscale_utils.collections.readers import RunReader, read_judgments
from rankscale_utils.evaluation.contract import contract
from rankscale_utils.evaluation.evaluate import evaluate_run
from rankscale_utils.evaluation.metrics import (
    Ranked,
    Test,
    best_inverse_temperature,
    entropies_per_query,
    judged_at_10,
    metrics_per_query,
    open_test,
    ranking,
    reference_values,
)
from rankscale_utils.evaluation.trec_runs import distinct_scores, scores_of_run, write_run
from rankscale_utils.machine.files import hashes_of, read_json, write_json
from rankscale_utils.measurements.reading import study_measurements
from rankscale_utils.measurements.table import SCHEMA, measured_rows, rising
from rankscale_utils.models.build import build_model
from rankscale_utils.models.checkpoint import load_checkpoint
from rankscale_utils.scoring import packed
from rankscale_utils.scoring.pairs import score_pairs
from rankscale_utils.study import paths

CPU = torch.device("cpu")
RUN = "listwise-w8-s0"


@pytest.fixture
def test(trained, collection):
    return open_test(trained, collection)


@pytest.fixture
def by_hand():
    """Return two queries: p was retrieved second of three for q, and not at all for r."""
    rows = [
        ("q", "a", 1, 0, 0),
        ("q", "p", 2, 0, 1),
        ("q", "b", 3, 0, 0),
        ("r", "c", 1, 1, 0),
        ("r", "d", 2, 1, 0),
        ("r", "e", 3, 1, 0),
        ("r", "p", None, 1, 1),
    ]
    table = pd.DataFrame(rows, columns=["query_id", "document_id", "rank", "query_row", "relevance"])
    table = table.assign(
        document_row=range(len(table)), retrieved=table["rank"].notna(), positive=table["relevance"] > 0
    )
    judgments = pd.DataFrame({"query_id": ["q", "r"], "doc_id": ["p", "p"], "relevance": [1, 1]})
    return Test("by hand", table, judgments, ("nDCG@10", "RR@10", "AP", "R@1", "P@10"), 3)


def means(values):
    return values.groupby("metric")["value"].mean().to_dict()


def random_scores(test, ties=False, seed=0):
    rng, count = np.random.default_rng(seed), len(test.candidates)
    return (rng.integers(3, size=count) if ties else rng.normal(size=count)).astype(np.float32)


def nearly_equal_scores(test):
    """Return scores that differ by about 1e-9: apart in double precision, mostly equal in single."""
    scores = 1 + random_scores(test, ties=True) + 1e-9 * random_scores(test).astype(float)
    assert len(np.unique(scores)) == len(scores) > 20 * len(np.unique(scores.astype(np.float32)))
    return scores


def test_candidates_are_the_retrieved_documents_and_every_relevant_one(test, collection):
    table = test.candidates
    assert table["query_id"].nunique() == len(test.judgments) == 40
    assert table[table["retrieved"]].groupby("query_id").size().tolist() == [10] * 40
    assert table.groupby("query_id")["relevance"].sum().tolist() == [1] * 40
    assert (table.loc[~table["retrieved"], "relevance"] == 1).all()
    assert 0 < (~table["retrieved"]).sum() < 40
    assert (collection.queries()["query_id"].to_numpy()[table["query_row"]] == table["query_id"]).all()
    assert (collection.documents()["document_id"].to_numpy()[table["document_row"]] == table["document_id"]).all()
    assert table.loc[table["retrieved"]].groupby("query_id")["rank"].is_monotonic_increasing.all()


def test_metrics_by_hand(by_hand):
    values = metrics_per_query(by_hand, np.array([3.0, 2, 1, 3, 2, 1, 99])).set_index(["query_id", "metric"])["value"]
    assert values["q"].to_dict() == pytest.approx(
        {"nDCG@10": 1 / math.log2(3), "RR@10": 0.5, "AP": 0.5, "R@1": 0, "P@10": 0.1}
    )
    assert values["r"].to_dict() == {"nDCG@10": 0, "RR@10": 0, "AP": 0, "R@1": 0, "P@10": 0}


def tied(by_hand, document):
    """Return q's metrics where all scores are the same and the relevant document has that id."""
    table = by_hand.candidates.replace({"document_id": {"p": document}})
    judgments = by_hand.judgments.assign(doc_id=document)
    values = metrics_per_query(dataclasses.replace(by_hand, candidates=table, judgments=judgments), np.zeros(7))
    return values[values["query_id"] == "q"].set_index("metric")["value"].to_dict()


def test_equal_scores_follow_trec_evals_rule(by_hand):
    first, last = tied(by_hand, "p"), tied(by_hand, "0")  # the order is by document id, descending
    assert (first["AP"], first["nDCG@10"], first["R@1"]) == (1, 1, 1)
    assert (last["AP"], last["nDCG@10"], last["R@1"]) == pytest.approx((1 / 3, 0.5, 0))


def test_reciprocal_rank_follows_the_same_rule(by_hand):
    assert tied(by_hand, "p")["RR@10"] == 1
    assert tied(by_hand, "0")["RR@10"] == pytest.approx(1 / 3)


def test_the_relevant_document_that_was_not_retrieved_enters_no_metric(test):
    scores = random_scores(test)
    missed = ~test.candidates["retrieved"].to_numpy()
    injected = np.where(missed, 100, scores)
    pd.testing.assert_frame_equal(metrics_per_query(test, scores), metrics_per_query(test, injected))
    assert means(entropies_per_query(test, scores))["CE9"] != means(entropies_per_query(test, injected))["CE9"]


@pytest.mark.parametrize("scores", ["apart", "equal", "nearly equal"])
def test_every_tool_finds_our_metrics_in_the_run_that_was_written(test, tmp_path, scores):
    scores = nearly_equal_scores(test) if scores == "nearly equal" else random_scores(test, ties=scores == "equal")
    write_run(tmp_path / "x.run.gz", Ranked(test, scores, None, None, None, None, 1.0), "some-run")
    run = list(ir_measures.read_trec_run(gzip.decompress((tmp_path / "x.run.gz").read_bytes()).decode()))
    assert len(run) == 400
    qrels = [ir_measures.Qrel(*row) for row in test.judgments.itertuples(index=False)]
    measures = [ir_measures.parse_measure(name) for name in test.metrics]
    own = {(v.query_id, v.metric): v.value for v in metrics_per_query(test, scores).itertuples()}
    theirs = {(v.query_id, str(v.measure)): v.value for v in ir_measures.iter_calc(measures, qrels, run)}
    assert own == theirs
    assert len(own) == 40 * len(measures)

    written, judged = defaultdict(dict), defaultdict(dict)
    for line in run:
        written[line.query_id][line.doc_id] = line.score
    for line in qrels:
        judged[line.query_id][line.doc_id] = line.relevance
    names = {"AP": "map", "nDCG@10": "ndcg_cut_10", "R@5": "recall_5", "R@10": "recall_10", "P@10": "P_10"}
    trec_eval = pytrec_eval.RelevanceEvaluator(judged, set(names.values())).evaluate(written)
    assert {(query, metric): trec_eval[query][name] for query in trec_eval for metric, name in names.items()} == (
        {key: value for key, value in own.items() if key[1] != "RR@10"}
    )
    assert [p.name for p in tmp_path.glob("*x.run*")] == ["x.run.gz"]


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-9, 0.0, 1e30])
def test_written_scores_never_tie_in_single_precision(test, tmp_path, scale):
    scores = (7.0 + scale * np.round(random_scores(test), 1)) * np.where(np.arange(len(test.candidates)) % 2, 1, -1)
    scores[:3] = np.nan, np.inf, -np.inf
    write_run(tmp_path / "x.run.gz", Ranked(test, scores, None, None, None, None, 1.0), "some-run")
    run = pd.DataFrame(RunReader(tmp_path / "x.run.gz"), columns=["query_id", "document_id", "score"])
    single = run.assign(score=run["score"].astype(np.float32)).groupby("query_id")["score"]
    assert single.diff().dropna().lt(0).all()
    assert single.nunique().eq(10).all()
    expected = ranking(test, scores)
    assert run["document_id"].tolist() == expected["document_id"].tolist()
    finite = np.isfinite(expected["score"].to_numpy())
    assert run["score"].to_numpy()[finite] == pytest.approx(expected["score"].to_numpy()[finite], rel=1e-5)


@pytest.fixture(params=[False, True])
def flushed(request):
    """Whether numbers too small to be normal are zero, as in a process that scores."""
    torch.set_flush_denormal(request.param)
    yield request.param
    torch.set_flush_denormal(True)


def test_equal_scores_at_zero_are_written_apart(flushed):
    ranks = np.array([1, 2, 3, 1, 2])
    scores = distinct_scores(np.array([0.0, 0.0, -0.0, -1.5, -1.5]), ranks)
    assert scores.dtype == np.float32
    assert (scores[0], scores[3]) == (0, -1.5)
    assert scores[0] > scores[1] > scores[2] > -1e-37
    written = [float(f"{score:.9g}") for score in scores]
    assert np.float32(written).tolist() == scores.tolist()
    assert scores[4] == np.nextafter(np.float32(-1.5), np.float32(-2))


def test_ids_with_quotes_and_missing_values_names_survive_a_run(by_hand, tmp_path):
    names = dict(zip("apbcde", ['"a"', "NA", "None", "b\u00a0c", "nan", "'"], strict=True))
    test = dataclasses.replace(by_hand, candidates=by_hand.candidates.replace({"document_id": names}))
    scores = np.arange(len(test.candidates), dtype=float)
    path = paths.run_file(tmp_path / "10.safetensors", test.name)
    write_run(path, Ranked(test, scores, None, None, None, None, 1.0), "some-run")
    ours = [document for _, document, _ in RunReader(path)]
    assert ours == ranking(test, scores)["document_id"].tolist()
    again = scores_of_run(test, tmp_path / "10.safetensors")
    assert metrics_per_query(test, again).equals(metrics_per_query(test, scores))


@pytest.mark.parametrize(
    ("ties", "metric"),
    [
        (False, "RR@10"),
        (False, "AP"),
        (True, "AP"),
        (True, "RR@10"),
    ],
)
def test_a_written_run_is_in_the_order_that_was_measured(test, tmp_path, ties, metric):
    scores = random_scores(test, ties)
    write_run(tmp_path / "x.run.gz", Ranked(test, scores, None, None, None, None, 1.0), "some-run")
    lines = [line.split(" ") for line in gzip.decompress((tmp_path / "x.run.gz").read_bytes()).decode().splitlines()]
    ranked = defaultdict(list)
    for query, q0, document, rank, _, name in lines:
        assert (q0, name) == ("Q0", "some-run")
        ranked[query].append(document)
        assert int(rank) == len(ranked[query])
    relevant = test.judgments.set_index("query_id")["doc_id"]
    reciprocal = {q: 1 / (1 + r.index(relevant[q])) if relevant[q] in r else 0 for q, r in ranked.items()}
    values = metrics_per_query(test, scores)
    measured = values[values["metric"] == metric].set_index("query_id")["value"]  # one relevant document: AP = RR
    assert measured.to_dict() == pytest.approx(reciprocal)


def raw_entropies(test, scores):
    values = entropies_per_query(test, scores)
    return values[values["metric"] == test.entropy]


def test_entropy_by_hand(by_hand):
    values = raw_entropies(by_hand, np.array([1.0, 2.0, -1.0, 0.5, 0.0, 30.0, 1.5])).set_index("query_id")
    assert set(values["metric"]) == {"CE2"} == {by_hand.entropy}
    of_q = -math.log(math.exp(2) / (math.exp(2) + math.exp(1) + math.exp(-1)))
    of_r = -math.log(math.exp(1.5) / (math.exp(1.5) + math.exp(0.5) + math.exp(0)))  # c and d rank before e
    assert values["value"].to_dict() == pytest.approx({"q": of_q, "r": of_r})


def test_entropy_of_equal_scores_is_that_of_chance_and_of_large_ones_finite(test):
    same = raw_entropies(test, np.full(len(test.candidates), 7.0))
    assert same["value"].to_numpy() == pytest.approx(math.log(test.depth))
    large = raw_entropies(test, np.where(test.candidates["relevance"] > 0, -5000.0, 5000.0))
    assert large["value"].to_numpy() == pytest.approx(10000 + math.log(test.depth - 1))


def test_the_ceiling_is_the_share_of_queries_whose_document_was_retrieved(test, collection):
    limits = reference_values(test)
    share = test.candidates.loc[test.candidates["relevance"] > 0, "retrieved"].mean()
    assert 0 < share < 1
    for metric in ("nDCG@10", "RR@10", "AP", "R@5", "R@10"):
        assert limits.loc[metric, "ceiling"] == pytest.approx(share)
    assert limits.loc["P@10", "ceiling"] == pytest.approx(share / 10)
    assert collection.manifest["tests"][test.name]["candidates_with_positive"] == round(share, 4)
    for seed in range(3):
        assert (
            limits["ceiling"].dropna() >= pd.Series(means(metrics_per_query(test, random_scores(test, seed=seed))))
        ).all()


def test_the_first_stage_is_bm25s_own_run(test, collection):
    candidates = collection.test_candidates(test.name).query("retrieved")
    run = [ir_measures.ScoredDoc(row.query_id, row.document_id, -float(row.rank)) for row in candidates.itertuples()]
    qrels = [ir_measures.Qrel(*row) for row in test.judgments.itertuples(index=False)]
    direct = ir_measures.calc_aggregate([ir_measures.parse_measure(name) for name in test.metrics], qrels, run)
    assert reference_values(test)["first_stage"].dropna().to_dict() == pytest.approx(
        {str(m): v for m, v in direct.items()}
    )


def test_scores_come_back_in_the_order_asked_whatever_the_batches(trained, test, collection, monkeypatch):
    model = build_model(trained, trained.run(RUN), collection.tokenizer().get_vocab_size()).eval()
    load_checkpoint(model, paths.checkpoint_file(trained.folder / RUN, 960))
    rows = test.candidates["query_row"].to_numpy(), test.candidates["document_row"].to_numpy()
    scores = score_pairs(model, collection.pairs(), *rows)
    assert scores.shape == (len(test.candidates),)
    assert np.ptp(scores) > 0.01
    monkeypatch.setattr(packed, "TOKENS_TOGETHER", (150, 150))  # three pairs or four
    np.testing.assert_allclose(score_pairs(model, collection.pairs(), *rows), scores, atol=1e-5)
    shuffled = np.random.default_rng(0).permutation(len(scores))
    again = score_pairs(model, collection.pairs(), rows[0][shuffled], rows[1][shuffled])
    np.testing.assert_allclose(again, scores[shuffled], atol=1e-5)


def test_evaluate_writes_what_it_measured(trained, collection):
    run, folder = trained.run(RUN), trained.folder / RUN
    table = evaluate_run(trained, run, collection, CPU)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "measurements.parquet"), table)
    SCHEMA.validate(table)
    assert sorted(table["exposure"].unique()) == [240, 480, 960]
    assert set(table["metric"]) == {*trained.evaluation.metrics, "CE9", "CE9-T"}
    assert set(table["excluded"]) == {""}
    assert set(table["run"]) == {RUN}
    assert set(table["collection"]) == {"docstrings/test"}
    per_query = pd.read_parquet(folder / "per_query.parquet")
    counts = per_query.groupby("metric")["query_id"].nunique().to_dict()
    assert 0 < counts.pop("CE9-T") < 40
    assert set(counts.values()) == {40}
    averaged = per_query.groupby(["exposure", "metric"])["value"].mean()
    expected = table.set_index(["exposure", "metric"])["value"]
    pd.testing.assert_series_equal(averaged.sort_index(), expected.sort_index())
    assert sorted(path.name for path in folder.glob("*.run.gz")) == [
        f"exposure-{exposure:09d}.docstrings-test.run.gz" for exposure in (240, 480, 960)
    ]
    assert table["judged@10"].between(0.05, 0.15).all()  # one judgment a query
    retrieval = table[table["metric"].map(rising)]
    assert (retrieval["value"] <= retrieval["ceiling"] + 1e-12).all()


def test_metrics_stand_in_the_order_that_the_study_names(trained, collection):
    table = evaluate_run(trained, trained.run(RUN), collection, CPU)
    assert list(table["metric"].unique()) == [*trained.evaluation.metrics, "CE9", "CE9-T"]


def test_several_tests_are_scored_in_one_pass_and_measured_apart(trained, new_study, monkeypatch):
    tests = {"one": "docstrings", "other": "docstrings"}
    alone = evaluate_run(trained, trained.run(RUN), open_collection(trained), CPU)
    study = new_study(trained.name, evaluation={"queries": 40, "depth": 10, "tests": tests})
    calls, scored = [], score_pairs
    monkeypatch.setattr("rankscale_utils.evaluation.scorers.score_pairs", lambda *of: calls.append(1) or scored(*of))
    for run in study.fitted_runs:
        evaluate_run(study, run, open_collection(study), CPU)
    assert len(calls) == 3 * len(study.fitted_runs)  # checkpoints
    table = study_measurements(study, fitted_only=True)
    for name in tests:
        mine = table[(table["run"] == RUN) & (table["collection"] == name)]
        assert mine["metric"].tolist() == alone["metric"].tolist()
        np.testing.assert_allclose(mine["value"], alone["value"], atol=1e-6)
        np.testing.assert_array_equal(mine["ceiling"], alone["ceiling"])
    runs = {path.name for path in (study.folder / RUN).glob("*240.*.run.gz")}
    assert {f"exposure-000000240.{name}.run.gz" for name in tests} < runs
    per_query = pd.read_parquet(study.folder / RUN / "per_query.parquet")
    assert per_query.groupby("collection", sort=False).size().to_dict() == dict.fromkeys(tests, len(per_query) // 2)


def evaluated_twice(study, collection, pattern):
    contents = []
    for _ in range(2):
        evaluate_run(study, study.run(RUN), collection, CPU)
        contents.append({path.name: path.read_bytes() for path in sorted((study.folder / RUN).glob(pattern))})
    assert contents[0]
    return contents


def test_evaluating_twice_gives_the_same_tables(trained, collection):
    first, second = evaluated_twice(trained, collection, "*.parquet")
    assert first == second


def test_evaluating_twice_gives_the_same_runs(trained, collection):
    first, second = evaluated_twice(trained, collection, "*.run.gz")
    assert first == second


def change_weights(study, change):
    """Change every tensor of the run's last checkpoint, as if training had written it so."""
    path, ledger = paths.checkpoint_file(study.folder / RUN, 960), paths.ledger_file(study.folder / RUN)
    for file, part in ((path / "model.safetensors", "encoder."), (path / "2_Dense" / "model.safetensors", "head.")):
        save_file({name: change(part + name, tensor) for name, tensor in load_file(file).items()}, file)
    written = read_json(ledger)
    written["checkpoints"][-1]["files"] = hashes_of(path)
    write_json(ledger, written)


def test_constant_scores_are_excluded_with_the_reason(trained, collection):
    change_weights(trained, lambda name, tensor: torch.zeros_like(tensor) if name.startswith("head") else tensor)
    table = evaluate_run(trained, trained.run(RUN), collection, CPU)
    assert table.groupby("exposure")["excluded"].first().to_dict() == {240: "", 480: "", 960: "constant scores"}
    assert sorted(measured_rows(table)["exposure"].unique()) == [240, 480]


def test_scores_that_do_not_tell_documents_apart_are_excluded(trained, collection):
    # Without attention to the document the query's states, and so its candidates' scores, are all the same.
    def deaf(name, tensor):
        return torch.zeros_like(tensor) if "attention.output.dense" in name else tensor

    change_weights(trained, deaf)
    table = evaluate_run(trained, trained.run(RUN), collection, CPU)
    assert table.groupby("exposure")["excluded"].first()[960] == "constant scores"


def test_scores_that_are_no_numbers_are_excluded_with_the_reason(trained, collection):
    for run in trained.fitted_runs:
        if run.name == RUN:
            change_weights(trained, lambda name, tensor: tensor * math.nan)
        evaluate_run(trained, run, collection, CPU)
    table = study_measurements(trained, fitted_only=True)
    assert set(table.loc[(table["run"] == RUN) & (table["exposure"] == 960), "excluded"]) == {
        "scores that are not numbers"
    }


def test_every_checkpoint_of_a_failed_run_is_excluded(trained, collection):
    path = trained.folder / RUN / "ledger.json"
    path.write_text(path.read_text().replace('"status": "complete"', '"status": "failed: as a test"'))
    table = evaluate_run(trained, trained.run(RUN), collection, CPU)
    assert set(table["excluded"]) == {"failed: as a test"}
    assert measured_rows(table).empty


def test_the_contract_says_what_the_numbers_mean(trained, collection):
    said = contract(trained, collection, "docstrings/test")
    limits, manifest = reference_values(open_test(trained, collection)), collection.manifest
    assert manifest["sha256"] in said["content"]
    assert "40 queries" in said["collection"]
    assert "9 negatives" in said["CE9"]
    assert "temperature" in said["CE9-T"]
    assert f"{limits.loc['nDCG@10', 'ceiling']:.4f}" in said["ceiling"]
    assert f"{limits.loc['nDCG@10', 'first_stage']:.4f}" in said["first_stage"]
    assert said["judgments"].startswith("binary (1), 1 a query")
    assert f"{manifest['tests']['docstrings/test']['candidates_with_positive']:.1%}" in said["positives"]


def test_a_temperature_is_found_on_half_of_the_queries_and_applied_to_the_others(test):
    rng = np.random.default_rng(0)
    relevant = test.candidates["positive"].to_numpy()
    scores = rng.normal(size=len(relevant)) + 1.5 * relevant
    values = entropies_per_query(test, scores)
    calibrated, raw = (values[values["metric"] == name].set_index("query_id")["value"] for name in ("CE9-T", "CE9"))
    for factor in (0.01, 30):  # whatever the logits' scale
        again = entropies_per_query(test, factor * scores)
        other = again[again["metric"] == "CE9-T"].set_index("query_id")["value"]
        np.testing.assert_allclose(other, calibrated, rtol=1e-3)
        assert again.loc[again["metric"] == "CE9", "value"].mean() > raw.mean()
    assert set(calibrated.index) < set(raw.index)
    assert calibrated.mean() < math.log(10)


def test_the_best_temperature_is_that_of_the_model_that_made_the_choices():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 5))
    chosen = (2.5 * logits + rng.gumbel(size=logits.shape)).argmax(1)  # the right one, at an inverse temperature of 2.5
    margins = logits - np.take_along_axis(logits, chosen[:, None], 1)
    found = best_inverse_temperature(margins.ravel(), np.arange(0, margins.size, 5), np.ones(4000, bool))
    assert found == pytest.approx(2.5, rel=0.05)


def test_scores_that_are_no_numbers_have_no_temperature(test):
    values = entropies_per_query(test, np.full(len(test.candidates), np.nan))
    assert values["value"].isna().all()


def test_grades_count_for_ndcg_and_binary_measures_begin_at_their_grade():
    rows = [("q", "a", 1, 1), ("q", "b", 2, 3), ("q", "c", 3, 0), ("q", "d", 4, 2)]
    table = pd.DataFrame(rows, columns=["query_id", "document_id", "rank", "relevance"])
    table = table.assign(query_row=0, document_row=range(4), retrieved=True, positive=table["relevance"] == 3)
    judgments = table[["query_id", "document_id", "relevance"]].rename(columns={"document_id": "doc_id"})
    metrics = ("nDCG@10", "RR@10", "R@2", "P@10", "AP", "P(rel=3)@10")
    test = Test("graded", table, judgments, metrics, 4, relevant_from=2)
    values = means(metrics_per_query(test, -table["rank"].to_numpy(float)))
    gain = [grade / math.log2(place + 2) for place, grade in enumerate((1, 3, 0, 2))]
    best = [grade / math.log2(place + 2) for place, grade in enumerate((3, 2, 1, 0))]
    assert list(values) == sorted(metrics)
    assert values["nDCG@10"] == pytest.approx(sum(gain) / sum(best))
    assert (values["RR@10"], values["R@2"], values["P@10"], values["P(rel=3)@10"]) == pytest.approx(
        (0.5, 0.5, 0.2, 0.1)
    )
    assert values["AP"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert judged_at_10(test, -table["rank"].to_numpy(float)) == 1
    fewer = dataclasses.replace(test, judgments=judgments[judgments["doc_id"] != "c"])
    assert judged_at_10(fewer, -table["rank"].to_numpy(float)) == 0.75


def published(run_file, judgments_file, depth):
    """Return a test of a published run with the whole judgments, in the run's own order."""
    run = pd.DataFrame(RunReader(run_file), columns=["query_id", "document_id", "score"])
    judged = read_judgments(judgments_file).rename(columns={"document_id": "doc_id"})
    judged = judged[judged["query_id"].isin(run["query_id"])]
    run = run.assign(rank=run.groupby("query_id").cumcount() + 1, retrieved=True, query_row=run["query_id"])
    run["relevance"] = 0
    return Test("published", run, judged, ("nDCG@10",), depth, relevant_from=2), run["score"].to_numpy()


@pytest.mark.parametrize(
    ("file", "dl19", "dl20"),
    [
        ("trec_dl/runs/bm25.{}.top100.run.gz", 0.5058, 0.4796),
        ("trec_dl/runs/tasb.{}.top100.run.gz", 0.7210, 0.6854),
        ("trec_dl/runs/splade++ed.{}.top100.run.gz", 0.7308, 0.7197),
        ("trec_dl/runs/ada2.{}.top100.run.gz", 0.7035, 0.6759),
        ("trec_dl_runs/bm25.{}.run.gz", 0.4795, 0.4936),
        ("trec_dl_runs/bm25+bert.{}.run.gz", 0.6855, 0.6716),
        ("trec_dl_runs/bm25+monot5.{}.top100.run.gz", 0.6982, 0.6818),
    ],
)
def test_published_runs_have_their_published_ndcg(real_data, file, dl19, dl20):
    for name, year, value in (("dl19", 2019, dl19), ("dl20", 2020, dl20)):
        run_file = real_data / file.format(name)
        judgments = real_data / "ir_datasets_home" / "msmarco-passage" / f"trec-dl-{year}" / "qrels"
        if not (run_file.exists() and judgments.exists()):
            pytest.skip(f"{run_file.name} or its judgments are not among the real data")
        test, scores = published(run_file, judgments, 1000)
        assert means(metrics_per_query(test, scores))["nDCG@10"] == pytest.approx(value, abs=5.1e-5)


def test_opening_the_test_leaves_the_collection_as_it_was(trained):
    collection = open_collection(trained)
    before = collection.test_candidates("docstrings/test")
    open_test(trained, collection)
    pd.testing.assert_frame_equal(collection.test_candidates("docstrings/test"), before)


def test_every_depth_is_measured_between_the_order_as_retrieved_and_the_metric_itself(trained, collection):
    run = next(run for run in trained.runs if run.name == RUN)
    table = evaluate_run(trained, run, collection, CPU)
    ends = table[(table["exposure"] == table["exposure"].max()) & (table["metric"] == "nDCG@10")].iloc[0]
    depths = pd.read_parquet(paths.run_depths_file(trained.run_folder(run)))
    means = depths.groupby("depth")["value"].mean()
    assert means.index.tolist() == [1, 2, 3, 5, 10]
    assert means[1] == pytest.approx(ends["first_stage"], abs=1e-12)
    assert means[10] == pytest.approx(ends["value"], abs=1e-12)
    assert set(depths["metric"]) == {"nDCG@10"}
    assert depths["query_id"].nunique() == 40
