import multiprocessing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.collections import docstrings, materialise, open_collection
from rankscale_utils.collections.bm25 import search_bm25
from rankscale_utils.collections.docstrings import locked_packages
from rankscale_utils.collections.sources import open_source
from tests.conftest import TINY


@pytest.fixture
def built(tiny_study):
    """Return the docstrings' queries, documents and judgments as they were built."""
    folder = open_source(tiny_study, "docstrings", "train").folder
    return [pd.read_parquet(folder / f"{name}.parquet") for name in ("queries", "documents", "judgments")]


def search(study, documents, queries, depth):
    pairs = zip(documents["document_id"], documents["text"], strict=True)
    with TemporaryDirectory() as folder:
        return search_bm25(study.first_stage, pairs, queries, depth, Path(folder) / "index")


def trained_on(collection):
    """Return the training items with ids: query, positive, hard (a list)."""
    items, queries, documents = collection.training_queries(), collection.queries(), collection.documents()
    names = documents["document_id"].to_numpy()
    return pd.DataFrame(
        {
            "query": queries["query_id"].to_numpy()[items.query_rows],
            "positive": names[items.positive_rows],
            "hard": names[items.hard_rows].tolist(),
        }
    )


def test_no_first_stage_for_training_queries_without_hard_negatives(new_study, collection, monkeypatch):
    searched = []

    def counted(*given):
        searched.append(len(given[2]))
        return search_bm25(*given)

    monkeypatch.setattr("rankscale_utils.collections.candidates.search_bm25", counted)
    groups = {"hard": 0, "random": 2, "queries_per_step": 4}
    study = new_study("easy", training=TINY["training"] | {"groups": groups}, first_stage={"k1": 0.8})
    items = open_collection(study).training_queries()
    assert searched == [study.evaluation.queries]
    assert len(items.query_rows) == len(collection.training_queries().query_rows)
    assert (items.hard_rows == -1).all()


def test_every_training_query_is_an_item_with_its_relevant_document(collection, built):
    queries, _, judgments = built
    items = trained_on(collection)
    assert items["query"].tolist() == queries.loc[queries["split"] == "train", "query_id"].tolist()
    assert items["positive"].tolist() == judgments.set_index("query_id")["document_id"].loc[items["query"]].tolist()
    assert set(collection.training_queries().grades) == {1}


def test_training_sees_training_documents_only(collection, built):
    _, documents, _ = built
    split = documents.set_index("document_id")["split"]
    items, names = collection.training_queries(), collection.documents()["document_id"].to_numpy()
    for rows in (items.positive_rows, items.hard_rows.ravel(), items.document_rows):
        assert set(split.loc[names[rows]]) == {"train"}
    assert names[items.document_rows].tolist() == split.index[split == "train"].tolist()
    table = collection.documents()
    assert set(split.loc[table.loc[table["training"], "document_id"]]) == {"train"}


def test_the_relevant_document_is_never_its_own_hard_negative(collection):
    items = trained_on(collection)
    assert all(row.positive not in row.hard and len(set(row.hard)) == 10 for row in items.itertuples())


def test_hard_negatives_are_the_best_ranked_training_documents(collection, tiny_study, built):
    queries, documents, _ = built
    items = trained_on(collection).iloc[:25]
    few = queries.set_index("query_id").loc[items["query"]].reset_index()
    found = search(tiny_study, documents[documents["split"] == "train"], few, 11)
    ranked = found.groupby("query_id", sort=False)["document_id"].agg(list)
    for row in items.itertuples():
        assert row.hard == [document for document in ranked[row.query] if document != row.positive][:10]


def test_test_candidates_are_bm25s_over_all_documents_as_retrieved(collection, tiny_study, built):
    queries, documents, judgments = built
    assert collection.tests == ["docstrings/test"]
    table, said = collection.test_candidates("docstrings/test"), collection.manifest["tests"]["docstrings/test"]
    candidates = table[table["retrieved"]].reset_index(drop=True)
    asked = queries[queries["query_id"].isin(candidates["query_id"])]
    assert len(asked) == said["test_queries"] == 40
    assert (asked["split"] == "test").all()
    again = search(tiny_study, documents, asked, 10)
    columns = ["query_id", "document_id", "rank"]
    pd.testing.assert_frame_equal(candidates[columns], again[columns], check_dtype=False)
    positives = candidates.merge(judgments, on=["query_id", "document_id"])
    share = positives["query_id"].nunique() / 40
    assert said["candidates_with_positive"] == round(share, 4)
    assert 0 < share < 1
    others = table[~table["retrieved"]]
    assert others["positive"].all()  # a list of ten holds nine negatives or more
    assert len(others) == 40 * (1 - share)


def test_rows_are_those_of_the_texts(collection):
    table = collection.test_candidates("docstrings/test")
    queries, documents = collection.queries(), collection.documents()
    assert (queries["query_id"].to_numpy()[table["query_row"]] == table["query_id"]).all()
    assert (documents["document_id"].to_numpy()[table["document_row"]] == table["document_id"]).all()
    assert len(collection.pairs().documents.starts) == len(documents) + 1
    assert len(collection.pairs().queries.starts) == len(queries) + 1


def test_only_what_is_scored_is_stored(collection, built):
    _, documents, _ = built
    used = set(collection.test_candidates("docstrings/test")["document_id"])
    used |= set(documents.loc[documents["split"] == "train", "document_id"])
    assert set(collection.documents()["document_id"]) == used
    assert len(used) < len(documents)


def test_a_texts_length_in_pieces_changes_nothing(new_study, collection, monkeypatch, tmp_path):
    monkeypatch.setattr(materialise, "AT_A_TIME", 7)
    (tmp_path / "cache").unlink()  # the session's
    again = open_collection(new_study())
    assert again.manifest == collection.manifest
    for name in ("queries", "documents"):
        pd.testing.assert_frame_equal(getattr(again, name)(), getattr(collection, name)())
    assert np.array_equal(again.pairs().documents.ids, collection.pairs().documents.ids)


def test_more_test_queries_include_the_fewer(new_study):
    few, more = (
        set(
            open_collection(new_study(evaluation={"queries": count, "depth": 10}))
            .test_candidates("docstrings/test")["query_id"]
        )
        for count in (20, 40)
    )  # fmt: skip
    assert len(few) == 20
    assert few < more


def test_the_cache_is_shared_by_what_decides_its_content(new_study, monkeypatch):
    first = open_collection(new_study())
    longer = open_collection(new_study("longer", text={"vocabulary": 512, "query_tokens": 12, "pair_tokens": 40}))
    assert (longer.texts, longer.candidates) == (first.texts, first.candidates)
    assert longer.tokens != first.tokens
    deeper = open_collection(new_study("deeper", evaluation={"queries": 40, "depth": 12}))
    assert deeper.candidates != first.candidates
    items, others = first.training_queries(), deeper.training_queries()  # another test moves no training row
    assert np.array_equal(items.hard_rows, others.hard_rows)
    assert deeper.manifest["sha256"] == first.manifest["sha256"]
    assert (deeper.tokens / "tokenizer.json").read_bytes() == (first.tokens / "tokenizer.json").read_bytes()
    versions = locked_packages() | {"jinja2": "0.0"}
    monkeypatch.setattr(docstrings, "locked_packages", lambda: versions)
    other = open_collection(new_study())  # as after an upgrade
    assert not {other.texts, other.candidates, other.tokens} & {first.texts, first.candidates, first.tokens}
    assert other.manifest["sha256"] == first.manifest["sha256"]
    assert np.array_equal(other.training_queries().hard_rows, first.training_queries().hard_rows)


def test_two_processes_that_open_at_once_build_once(new_study, tmp_path):
    (tmp_path / "cache").unlink()  # the session's
    study = new_study("pairs", collection={"pairs": write_pairs(tmp_path / "params" / "pairs.tsv")})
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=open_collection, args=(study,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    folders = [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert sorted(name.split("-")[0] for name in folders) == [
        "bm25", "bm25", "candidates", "pairs", "retrieved", "retrieved", "texts", "tokens",
    ]  # fmt: skip


def write_pairs(path, count=300):
    words = ["apple", "pear", "plum", "cherry", "lemon", "peach", "melon", "grape", "quince", "fig"]
    said = [" ".join(words[int(digit)] for digit in f"{number:03d}") for number in range(count)]
    path.write_text("query\tpositive\n" + "".join(f"find {s}\tthe tale of {s} and {s}\n" for s in said))
    return path.name
