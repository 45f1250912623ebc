"""The forms in which a study may name its collection, on real data where there is some."""

import gzip
import multiprocessing

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.collections import open_collection
from rankscale_utils.collections.batching import even_sample
from rankscale_utils.collections.candidates import best_of_run
from rankscale_utils.errors import StudyError
from rankscale_utils.evaluation.contract import contract
from rankscale_utils.evaluation.metrics import judged_at_10, open_test, reference_values

DL19 = {"ir_datasets": "msmarco-passage/trec-dl-2019/judged", "candidates": "scoreddocs"}
DL20 = {"ir_datasets": "msmarco-passage/trec-dl-2020/judged", "candidates": "scoreddocs"}
NFCORPUS = {"ir_datasets": "beir/nfcorpus/test", "queries": 50}
TRAINING = {
    "exposures": [240],
    "groups": {"hard": 2, "random": 1, "hard_depth": 10, "queries_per_step": 4},
    "cooldown": 0.25,
    "warmup_steps": 5,
}


@pytest.fixture
def real_study(new_study, ir_datasets_home):
    """Return what writes a study of NFCorpus and the TREC DL tests: real_study(name, field=value, …)."""
    collection = {"ir_datasets": "beir/nfcorpus/train", "queries": 60}
    tests = {"nfcorpus": NFCORPUS, "dl19": DL19, "dl20": DL20}
    fields = {"collection": collection, "training": TRAINING, "evaluation": {"depth": 100, "tests": tests}}
    return lambda name="real", **changes: new_study(name, **fields | changes)


def test_bm25_on_trec_dl_has_its_published_values(real_study):
    study = real_study()
    collection = open_collection(study)
    for name, value in (("dl19", 0.5058), ("dl20", 0.4796)):
        limits = reference_values(open_test(study, collection, name))
        assert limits.loc["nDCG@10", "first_stage"] == pytest.approx(value, abs=5e-5)
        assert limits.loc["nDCG@10", "ceiling"] < 1
        said = contract(study, collection, name)
        assert said["judgments"].startswith("graded (0, 1, 2, 3)")
        assert "2 or more is relevant" in said["gain"]
    assert judged_at_10(open_test(study, collection, "dl19"), dl19_order(study, collection)) == pytest.approx(1)


def dl19_order(study, collection):
    return -open_test(study, collection, "dl19").candidates["rank"].fillna(1e6).to_numpy()


def test_items_are_judgments_and_negatives_are_never_judged_relevant(real_study):
    study = real_study()
    collection = open_collection(study)
    items, queries, documents = collection.training_queries(), collection.queries(), collection.documents()
    names, asked = documents["document_id"].to_numpy(), queries["query_id"].to_numpy()
    import ir_datasets

    dataset = ir_datasets.load("beir/nfcorpus/train")
    judged = pd.DataFrame(dataset.qrels_iter()).set_index(["query_id", "doc_id"])["relevance"]
    chosen = asked[np.unique(items.query_rows)]
    assert len(chosen) == 60
    ours = pd.Series(items.grades, index=[asked[items.query_rows], names[items.positive_rows]])
    expected = judged[judged.index.get_level_values(0).isin(chosen)]
    assert ours.to_dict() == expected.to_dict()
    for row in np.random.default_rng(0).integers(len(items.query_rows), size=200):
        query, hard = asked[items.query_rows[row]], items.hard_rows[row]
        assert not {(query, one) for one in names[hard[hard >= 0]]} & set(expected.index)
    texts = {document.doc_id: document.default_text() for document in dataset.docs_iter()}
    train = documents[documents["corpus"] == "beir/nfcorpus"]
    assert (train["text"] == train["document_id"].map(texts)).all()


def test_only_scored_passages_are_stored_and_ids_of_collections_never_meet(real_study):
    documents = open_collection(real_study()).documents()
    by_corpus = documents.groupby("corpus").size()
    assert set(by_corpus.index) == {"beir/nfcorpus", "msmarco-passage"}
    assert by_corpus["msmarco-passage"] < 29_894 / 2
    assert not documents.duplicated(["corpus", "document_id"]).any()


def test_another_test_moves_no_training_data(real_study):
    whole = open_collection(real_study())
    alone = open_collection(real_study("alone", evaluation={"depth": 100, "tests": {"dl19": DL19}}))
    assert alone.manifest["sha256"] == whole.manifest["sha256"]
    for array in ("query_rows", "positive_rows", "hard_rows", "document_rows"):
        one, other = (getattr(opened.training_queries(), array) for opened in (alone, whole))
        assert np.array_equal(one, other)


def test_the_contrastive_entropy_has_all_its_negatives(real_study):
    study = real_study()
    collection = open_collection(study)
    for name in collection.tests:
        table = open_test(study, collection, name).candidates
        table = table[table["query_id"].isin(table.loc[table["positive"], "query_id"])]
        negatives = table[(table["relevance"] <= 0) & ~table["positive"]].groupby("query_id").size()
        assert (negatives >= 99).all()
        assert len(negatives) == table["query_id"].nunique()
        assert table.groupby("query_id")["positive"].sum().max() == 1
        assert (table.loc[table["positive"], "relevance"] >= (1 if name == "nfcorpus" else 2)).all()


def test_another_first_stages_run_supplies_candidates(real_study, real_data):
    run = real_data / "trec_dl" / "runs" / "splade++ed.dl19.top100.run.gz"
    study = real_study("splade", evaluation={"depth": 100, "tests": {"dl19": DL19 | {"candidates": str(run)}}})
    collection = open_collection(study)
    test = open_test(study, collection)
    assert reference_values(test).loc["nDCG@10", "first_stage"] == pytest.approx(0.7308, abs=5e-5)
    assert run.name in contract(study, collection, "dl19")["candidates"]


def test_a_teachers_scores_reach_the_items(real_study, real_data):
    run = str(real_data / "trec_dl" / "runs" / "splade++ed.dl19.top100.run.gz")
    groups = TRAINING["groups"] | {"random": 0}
    study = real_study("taught", collection=DL19 | {"teacher": run}, training=TRAINING | {"groups": groups})
    collection = open_collection(study)
    items, names = collection.training_queries(), collection.documents()["document_id"].to_numpy()
    asked = collection.queries()["query_id"].to_numpy()
    with gzip.open(run, "rt") as lines:
        scores = {(line.split()[0], line.split()[2]): float(line.split()[4]) for line in lines}
    for row in range(0, len(items.query_rows), 50):
        query = asked[items.query_rows[row]]
        assert items.positive_teacher[row] == np.float32(scores[query, names[items.positive_rows[row]]])
        there = items.hard_rows[row] >= 0
        expected = [np.float32(scores[query, names[one]]) for one in items.hard_rows[row][there]]
        assert items.hard_teacher[row][there].tolist() == expected
    assert items.grades.min() == 2
    assert collection.manifest["tests"]["dl19"]["queries_also_trained_on"] == 43
    assert "43 of them also trained on" in contract(study, collection, "dl19")["collection"]
    assert collection.manifest["left_out"]["too_few_negatives"] > 0  # a query whose candidates are nearly all relevant
    assert (items.hard_rows >= 0).sum(1).min() >= 2


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"ir_datasets": "beir/nfcorpos/train"}, "no id of ir_datasets .*, did you mean beir/nfcorpus/train?"),
        ({"ir_datasets": "beir/nfcorpus"}, "has no qrels: use another id of the collection"),
        (NFCORPUS | {"candidates": "scoreddocs"}, "brings none; write bm25 or a TREC run's path"),
    ],
)
def test_an_id_that_cannot_be_used_is_refused(real_study, form, sentence):
    with pytest.raises(StudyError, match=sentence) as caught:
        open_collection(real_study(collection=form))
    assert "\n" not in str(caught.value)


def test_what_is_neither_there_nor_to_be_had_is_refused_with_what_there_is(real_study, monkeypatch):
    monkeypatch.setenv("IR_DATASETS_DL_TRIES", "1")
    with pytest.raises(StudyError, match=r"set IR_DATASETS_HOME to a folder that has them; this one has beir, cord19"):
        open_collection(real_study(collection={"ir_datasets": "beir/fiqa/train"}))


def test_a_run_of_another_collection_is_refused(real_study, real_data):
    run = str(real_data / "trec_dl" / "runs" / "bm25.dl20.top100.run.gz")
    with pytest.raises(StudyError, match="none of the queries is in the run"):
        open_collection(real_study(evaluation={"depth": 100, "tests": {"dl19": DL19 | {"candidates": run}}}))


def test_two_processes_leave_one_sound_cache(real_study, ir_datasets_home, tmp_path):
    (tmp_path / "cache").unlink()  # the session's
    for index in ir_datasets_home.rglob("*.pklz4"):  # ir_datasets' own, which both would build
        for file in index.iterdir():
            file.unlink()
        index.rmdir()
    study = real_study(evaluation={"depth": 20, "tests": {"nfcorpus": NFCORPUS, "dl20": DL20}})
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=open_collection, args=(study,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
    assert [process.exitcode for process in processes] == [0, 0]
    folders = [path.name.split("-")[0] for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert sorted(folders) == ["bm25", "candidates", *["retrieved"] * 3, "texts", "tokens"]  # one index of both splits


def test_a_sample_is_even_and_always_the_same():
    counts = np.zeros(1000)
    for shift in range(200):
        for one in even_sample((str((n + shift * 37) % 1000) for n in range(1000)), 50):
            counts[int(one)] += 1
    assert counts.sum() == 200 * 50
    assert 8 < counts.mean() < 12
    drawn = [int(one) for one in even_sample(map(str, range(20_000)), 2000)]
    assert drawn == [int(one) for one in even_sample(map(str, range(20_000)), 2000)]
    assert len(set(drawn)) == 2000
    assert np.histogram(drawn, 10)[0] == pytest.approx([200] * 10, rel=0.25)
    assert even_sample(["a", "b"], 5) == ["a", "b"]
    assert even_sample([], 5) == []


def test_a_run_is_read_in_trec_evals_order_and_cut():
    scored = [("q", "a", 1.0), ("q", "c", 2.0), ("q", "b", 2.0), ("other", "z", 9.0), ("q", "d", 0.5)]
    table = best_of_run(iter(scored), pd.DataFrame({"query_id": ["q", "unanswered"]}), 3, "x").table
    assert table["document_id"].tolist() == ["c", "b", "a"]
    assert table["rank"].tolist() == [1, 2, 3]
    with pytest.raises(StudyError, match="document a twice for query q"):
        best_of_run(iter([*scored, ("q", "a", 3.0)]), pd.DataFrame({"query_id": ["q"]}), 9, "x")
