import numpy as np
import pandas as pd

from rankscale_utils.collections import docstrings, first_stage, open_collection


def test_training_negatives_are_training_documents_only(collection):
    training = collection.training_queries()
    documents, queries = collection.documents(), collection.queries()
    assert (queries["split"].to_numpy()[training.query_rows] == "train").all()
    assert len(training.query_rows) == (queries["split"] == "train").sum()
    for rows in (training.positive_rows, training.hard_rows, training.document_rows):
        assert (documents["split"].to_numpy()[rows] == "train").all()
    assert len(training.document_rows) == (documents["split"] == "train").sum()


def test_the_relevant_document_is_never_its_own_hard_negative(collection):
    training = collection.training_queries()
    assert training.hard_rows.shape == (len(training.query_rows), 10)
    assert (training.hard_rows != training.positive_rows[:, None]).all()
    assert all(len(set(rows)) == len(rows) for rows in training.hard_rows.tolist())
    judgments = collection.judgments().set_index("query_id")["document_id"]
    query_ids = collection.queries()["query_id"].to_numpy()[training.query_rows]
    positive = collection.documents()["document_id"].to_numpy()[training.positive_rows]
    assert positive.tolist() == judgments.loc[query_ids].tolist()


def test_hard_negatives_are_the_best_ranked_training_documents(collection, tiny_study):
    training = collection.training_queries()
    queries, documents = collection.queries(), collection.documents()
    few = queries.iloc[training.query_rows[:25]]
    found = first_stage.search(tiny_study.first_stage, documents[documents["split"] == "train"], few, 11)
    found["row"] = found["document_id"].map(pd.Series(documents.index, index=documents["document_id"]))
    for place, (_, ranked) in enumerate(found.groupby("query_id", sort=False)):
        others = ranked.loc[ranked["row"] != training.positive_rows[place], "row"].tolist()[:10]
        assert training.hard_rows[place].tolist() == others


def test_test_candidates_are_bm25s_over_all_documents_as_retrieved(collection, tiny_study):
    candidates, queries = collection.test_candidates(), collection.queries()
    asked = queries[queries["query_id"].isin(candidates["query_id"])]
    assert len(asked) == collection.manifest["test_queries"] == 40
    assert (asked["split"] == "test").all()
    again = first_stage.search(tiny_study.first_stage, collection.documents(), asked, 10)
    pd.testing.assert_frame_equal(candidates.reset_index(drop=True), again)
    positives = candidates.merge(collection.judgments(), on=["query_id", "document_id"])
    share = positives["query_id"].nunique() / 40
    assert collection.manifest["candidates_with_positive"] == round(share, 4)
    assert 0 < share < 1


def test_more_test_queries_include_the_fewer(new_study):
    few, more = (
        set(open_collection(new_study(evaluation={"queries": count, "depth": 10})).test_candidates()["query_id"])
        for count in (20, 40)
    )
    assert len(few) == 20
    assert few < more


def test_the_cache_is_shared_by_what_decides_its_content(new_study, monkeypatch):
    first = open_collection(new_study())
    deeper = open_collection(new_study("deeper", evaluation={"queries": 40, "depth": 12}))
    assert (deeper.texts, deeper.tokens) == (first.texts, first.tokens)
    assert deeper.candidates != first.candidates
    longer = open_collection(new_study("longer", text={"vocabulary": 512, "query_tokens": 12, "pair_tokens": 40}))
    assert (longer.texts, longer.candidates) == (first.texts, first.candidates)
    assert longer.tokens != first.tokens
    versions = docstrings.locked_packages() | {"jinja2": "0.0"}
    monkeypatch.setattr(docstrings, "locked_packages", lambda: versions)
    other = open_collection(new_study())  # as after an upgrade
    assert not {other.texts, other.candidates, other.tokens} & {first.texts, first.candidates, first.tokens}
    assert other.manifest["sha256"] == first.manifest["sha256"]
    assert np.array_equal(other.training_queries().hard_rows, first.training_queries().hard_rows)
