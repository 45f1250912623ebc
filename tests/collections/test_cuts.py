"""What length limits drop is said."""

import json

import pytest

from rankscale_utils.collections import open_collection
from rankscale_utils.evaluation.contract import contract
from tests.collections.test_readers import TRAINING, tale, write


@pytest.mark.parametrize(
    ("query_tokens", "pair_tokens", "queries", "documents"),
    [(20, 96, 0.0, 0.0), (5, 16, 0.5, 0.2), (10, 19, 0.0, 0.4)],
)
def test_the_share_of_tokens_that_are_dropped(new_study, tmp_path, query_tokens, pair_tokens, queries, documents):
    lines = [
        {"query": f"{tale(n)} " * 3 + "end", "positive": f"{tale(n)} {tale(n + 1)} {tale(n + 2)} end"}
        for n in range(300)
    ]  # queries of ten words, documents of ten, every word a token
    write(tmp_path / "params" / "mine.jsonl", "\n".join(map(json.dumps, lines)))
    text = {"vocabulary": 512, "query_tokens": query_tokens, "pair_tokens": pair_tokens}
    study = new_study("mine", collection={"pairs": "mine.jsonl"}, training=TRAINING, text=text)
    collection = open_collection(study)
    manifest = collection.manifest
    assert manifest["cut"] == manifest["tests"]["mine/test"]["cut"] == {"queries": queries, "documents": documents}
    warned = [note for note in manifest["notes"] if "drops" in note]
    assert len(warned) == 2 * ((queries > 0.1) + (documents > 0.1))
    assert not queries or "mine/test: text.query_tokens drops 50% of the queries' tokens." in warned
    said = contract(study, collection, "mine/test")["length"]
    assert said == f"limits drop {queries:.1%} of the queries' tokens and {documents:.1%} of the candidates'"
