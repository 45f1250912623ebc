"""What runs on annotated pairs are trained on, from every source, and where they end."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rankscale_utils.collections import open_collection
from rankscale_utils.collections.groups import TrainingQueries, random_keys, training_steps
from rankscale_utils.errors import StudyError
from rankscale_utils.evaluation.evaluate import evaluate_run
from rankscale_utils.models.build import build_model
from rankscale_utils.pipeline.prepare import main, prepare
from rankscale_utils.study.ledger import ended, own_end
from rankscale_utils.training.annotated_pairs import Dev, annotated, dev_and_rest
from rankscale_utils.training.annotation_sources import build_source
from rankscale_utils.training.query_generator import generated_queries
from rankscale_utils.training.run import train
from tests.conftest import TINY

CPU = torch.device("cpu")
COUNTS = [100, 200, 300, 400, 800]
ANNOTATIONS = {
    "counts": COUNTS,
    "rungs": ["w4", "w8"],
    "sources": ["human", "inverse_cloze", "generated"],
    "exposures": [64, 128, 256, 512],
    "generator": {"shape": {"hidden": 16}, "pairs": 320, "queries_per_step": 16},
}
TRAINING = TINY["training"] | {"groups": {"hard": 0, "random": 0, "queries_per_step": 16}, "exposures": [64, 128]}
DENSE = {
    "family": "bi_encoder",
    "objectives": {"contrastive": {"in_batch": True, "learning_rate": {"base": 3e-3}}},
    "training": TRAINING,
    "evaluation": TINY["evaluation"] | {"negatives": 50},
}


@pytest.fixture
def dense(new_study):
    """Return what writes the tiny study as a bi-encoder's, with runs on annotated pairs: dense(field=value, …)."""
    return lambda **changes: new_study("dense", **(DENSE | {"annotations": ANNOTATIONS | changes}))


def pairs_of(collection, items):
    """The tokens of every pair's query and document."""
    read, rows = collection.pairs(), zip(items.query_rows, items.positive_rows, strict=True)
    return {(tokens(read.queries, query), tokens(read.documents, document)) for query, document in rows}


def tokens(texts, row):
    return tuple(texts.ids[texts.starts[row] : texts.starts[row + 1]].tolist())


def of_source(study, source, count, rung="w8"):
    """What a run on so many of a source's pairs is trained on."""
    run = study.run(f"contrastive-{rung}-{source}-{count}-s0")
    collection = open_collection(study)
    build_source(study, source, collection)
    return annotated(study, run, collection)


def test_the_runs_are_every_number_of_human_pairs_and_fewer_of_others(dense):
    study = dense()
    names = [run.name for run in study.annotation_runs]
    assert len(names) == 2 * 5 + 2 * 4
    assert "contrastive-w4-human-800-s0" in names
    assert "contrastive-w8-generated-400-s0" in names
    assert not [name for name in names if name.startswith("contrastive-w4-generated") or "generated-800" in name]
    held_out = {run.name for run in study.annotation_runs} - {run.name for run in study.fitted_annotation_runs}
    assert held_out == {"contrastive-w4-human-800-s0", "contrastive-w8-human-800-s0"}


@pytest.mark.parametrize("source", ["human", "inverse_cloze", "generated"])
def test_smaller_subsets_lie_in_larger_ones_and_no_pair_is_of_the_dev_part(dense, source):
    study = dense()
    dev, _ = dev_and_rest(open_collection(study))
    smaller = set()
    for count in COUNTS[:-1]:
        collection = of_source(study, source, count)
        items = collection.training_queries()
        assert len(items.query_rows) == count
        pairs = pairs_of(collection, items)
        assert smaller <= pairs
        smaller = pairs
    documents = items.positive_rows if source == "human" else items.relevant & 0xFFFFFFFF
    assert not set(dev.positive_rows.tolist()) & set(documents.tolist())
    step = next(training_steps(items, study.training.groups, 0))
    assert items.is_relevant(step.query_rows[:, 0], step.document_rows[:, 0]).all()


def test_the_dev_part_takes_few_pairs_of_queries_with_many_judgments():
    queries, documents = np.divmod(np.arange(100 * 90), 90)
    hard = np.full((len(queries), 1), -1)
    items = TrainingQueries(
        queries, documents, np.ones(9000), hard, np.sort(random_keys(queries, documents)), np.arange(90)
    )
    dev, rest = dev_and_rest(SimpleNamespace(training_queries=lambda: items))
    assert len(dev.query_rows) == 500
    assert len(np.unique(dev.query_rows)) == 10
    assert len(rest.query_rows) == 90 * 90
    assert not set(dev.query_rows) & set(rest.query_rows)


def test_inverse_cloze_pairs_read_documents_without_their_sentence(dense):
    study = dense()
    collection = of_source(study, "inverse_cloze", 400)
    documents, base = collection.pairs().documents, open_collection(study).pairs().documents
    own = collection.training_queries().positive_rows
    assert own.min() >= len(base.starts) - 1
    assert np.array_equal(documents.ids[: base.starts[-1]], base.ids)
    assert documents.lengths(own).min() >= 1


def test_the_generator_asks_of_documents_that_it_did_not_learn_from(dense, monkeypatch):
    taught = {}

    def noted(study, collection, teaching, rows):
        taught["documents"], taught["asked"] = set(teaching.positive_rows.tolist()), set(rows.tolist())
        return ["some words"] * len(rows)

    monkeypatch.setattr("rankscale_utils.training.annotation_sources.generated_queries", noted)
    study = dense(generator={"shape": {"hidden": 8}, "pairs": 48, "queries_per_step": 16})
    build_source(study, "generated", open_collection(study))
    dev, rest = dev_and_rest(open_collection(study))
    assert not taught["documents"] & taught["asked"]
    assert not set(dev.positive_rows.tolist()) & (taught["asked"] | taught["documents"])
    assert len(taught["documents"]) == pytest.approx(0.3 * len(rest.query_rows), rel=0.05)


def test_a_generators_queries_are_prepared_apart_from_the_rest(dense):
    study = dense()
    main(str(study.source))
    assert not (study.folder / "generated.json").exists()
    main(str(study.source), "generated")
    assert json.loads((study.folder / "generated.json").read_text())["pairs"] >= 400


def test_generated_queries_are_words_and_the_same_each_time(dense, session_root):
    study = dense()
    collection = open_collection(study)
    _, rest = dev_and_rest(collection)
    rows = np.sort(rest.document_rows[:40])
    first, again = (generated_queries(study, collection, rest.of(np.arange(200)), rows) for _ in range(2))
    assert first == again
    assert len(first) == 40
    assert sum(len(query.split()) >= 1 for query in first) > 30
    assert not any(token in query for query in first for token in ("[PAD]", "[CLS]", "[SEP]"))


def test_a_language_models_queries_come_from_a_file(dense, tmp_path):
    study = dense(sources=["human"], files={"llm": "queries.jsonl"})
    path = study.beside("queries.jsonl")
    collection = open_collection(study.model_copy(update={"annotations": None}))
    ids = collection.document_ids()["document_id"]
    lines = [{"document_id": ids[row], "query": f"where is number {row}"} for row in range(600)]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    own = of_source(study, "llm", 400)
    dev, _ = dev_and_rest(collection)
    assert not set(own.training_queries().positive_rows.tolist()) & set(dev.positive_rows.tolist())
    path.write_text(json.dumps({"document_id": "d0", "query": "x"}) + '\n{"document_id": "nowhere", "query": "y"}')
    with pytest.raises(
        StudyError, match=r"queries\.jsonl: line 2 names document 'nowhere', which the collection lacks"
    ):
        prepare(study)
    path.write_text("\n".join(json.dumps(line) for line in lines[:50]))
    with pytest.raises(StudyError, match=r"annotations = \[100, 200, 300, 400\]: there are \d+ annotated pairs"):
        prepare(study)
    path.unlink()
    with pytest.raises(StudyError, match=r"annotations\.files\.llm names .*queries\.jsonl, which is no file"):
        prepare(study)


def test_training_opens_annotated_pairs_and_builds_none(dense):
    study = dense(counts=[90, 190, 290, 390, 790])  # which no other test prepares
    run, collection = study.run("contrastive-w8-inverse_cloze-190-s0"), open_collection(study)
    with pytest.raises(StudyError, match="the pairs of inverse_cloze have not been prepared: run `make study"):
        train(study, run, collection, CPU)


def test_a_run_ends_where_the_dev_part_says_and_is_measured_there_alone(dense, monkeypatch):
    study = dense()
    run, collection = study.run("contrastive-w8-human-200-s0"), open_collection(study)
    entropies = iter([4.0, 3.0, 3.5, 3.2, 1.0])
    monkeypatch.setattr(Dev, "entropy", lambda *_: next(entropies))
    build_source(study, "human", collection)
    ledger = train(study, run, collection, CPU)
    assert [row["dev"] for row in ledger["checkpoints"]] == [4.0, 3.0, 3.5, 3.2]
    assert own_end(ledger["checkpoints"])["exposure"] == 128
    table = evaluate_run(study, run, collection, CPU)
    assert set(table["exposure"]) == {128}
    assert set(table["annotations"]) == {200}
    assert set(table["source"]) == {"human"}
    assert "CE50" in set(table["metric"])


def test_no_better_checkpoints_in_a_row_end_a_run():
    rows = [{"dev": value} for value in (5.0, 4.0, 4.5, 4.4)]
    assert not ended([])
    assert not ended(rows[:3])
    assert ended(rows)
    assert not ended([*rows[:3], {"dev": 3.9}])


def test_the_dev_parts_entropy_of_a_model_that_knows_nothing_is_chance(dense):
    study = dense()
    collection = open_collection(study)
    run = study.run("contrastive-w8-human-800-s0")
    dev, vocabulary = Dev(study, collection), collection.tokenizer().get_vocab_size()
    new = build_model(study, run, vocabulary)
    torch.nn.init.zeros_(new.projection.weight)
    assert dev.entropy(new) == pytest.approx(np.log(51), rel=1e-5)
    build_source(study, "human", collection)
    ledger = train(study, run, collection, CPU)
    assert ledger["checkpoints"][-1]["dev"] < np.log(51)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"counts": [100, 300, 200, 400]}, r"annotations\.counts = \[100, 300, 200, 400\]: must rise from 1 on"),
        ({"sources": ["inverse_cloze"]}, "human pairs are what the others are compared with: add human"),
        ({"rungs": ["w5"]}, r"rungs \['w5'\] are not on the ladder"),
        ({"rungs": ["w12"]}, r"\['w12'\] are trained on annotations before their forecast is sealed: choose other"),
        ({"files": {"human": "q.jsonl"}}, r"\['human'\] are sources of our own: name the file's queries otherwise"),
    ],
)
def test_annotations_that_cannot_be_are_refused(dense, changes, sentence):
    with pytest.raises(StudyError, match=sentence):
        dense(**changes)


def test_annotations_need_a_retriever_and_no_first_stage(new_study):
    with pytest.raises(StudyError, match="they train the objective contrastive, which the study has not: add it"):
        new_study("dense", annotations=ANNOTATIONS)
    with pytest.raises(StudyError, match=r"no first stage finds hard = 1 negatives for new queries: set groups\.hard"):
        new_study("dense", **DENSE | {"annotations": ANNOTATIONS, "training": TINY["training"]})
