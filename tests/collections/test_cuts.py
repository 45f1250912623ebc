"""What length limits drop is said."""

import json
import random

import numpy as np
import pytest

from rankscale_utils.collections import open_collection
from rankscale_utils.collections.notes import _unknown
from rankscale_utils.collections.tokens import StudyTokenizer
from rankscale_utils.evaluation.contract import contract
from tests.collections.test_readers import TRAINING, tale, write


def tens(folder):
    """Write pairs, mine.jsonl: queries of ten words, documents of ten, every word a token."""
    lines = [
        {"query": f"{tale(n)} " * 3 + "end", "positive": f"{tale(n)} {tale(n + 1)} {tale(n + 2)} end"}
        for n in range(300)
    ]
    write(folder / "params" / "mine.jsonl", "\n".join(map(json.dumps, lines)))


@pytest.mark.parametrize(
    ("query_tokens", "pair_tokens", "queries", "documents"),
    [(20, 96, 0.0, 0.0), (5, 16, 0.5, 0.2), (10, 19, 0.0, 0.4)],
)
def test_the_share_of_tokens_that_are_dropped(new_study, tmp_path, query_tokens, pair_tokens, queries, documents):
    tens(tmp_path)
    text = {"vocabulary": 512, "query_tokens": query_tokens, "pair_tokens": pair_tokens}
    study = new_study("mine", collection={"pairs": "mine.jsonl"}, training=TRAINING, text=text)
    collection = open_collection(study)
    manifest = collection.manifest
    cut = {"together": {"queries": queries, "documents": documents}}
    assert manifest["cut"] == manifest["tests"]["mine/test"]["cut"] == cut
    warned = [note for note in manifest["notes"] if "drops" in note]
    assert len(warned) == 2 * ((queries > 0.1) + (documents > 0.1))
    assert not queries or "mine/test: text.query_tokens drops 50% of the queries' tokens." in warned
    said = contract(study, collection, "mine/test")["length"]
    dropped = f"limits drop {queries:.1%} of the queries' tokens and {documents:.1%} of the candidates'"
    assert said == f"{dropped}; 0.0% and 0.0% of their letters stand in unknown words"


@pytest.mark.parametrize("query_tokens", [20, None])
def test_what_is_read_apart_is_cut_otherwise(new_study, tmp_path, query_tokens):
    """A bi-encoder's and ED2LM's documents have the room that the longest query leaves, whatever their own is."""
    tens(tmp_path)
    objectives = {name: {"learning_rate": {"base": 1e-3}} for name in ("listwise", "contrastive")}
    text = {"vocabulary": 512, "query_tokens": query_tokens, "pair_tokens": 31 if query_tokens else 8}
    study = new_study("mine", collection={"pairs": "mine.jsonl"}, training=TRAINING, text=text, objectives=objectives)
    collection = open_collection(study)
    # 31: 18 beside a query of ten, 8 beside one of twenty; 8, as 7, an even room: 2 of each, 6 of either alone
    together, apart = ((0.0, 0.0), (0.0, 0.2)) if query_tokens else ((0.8, 0.8), (0.2, 0.4))
    manifest = collection.manifest
    assert manifest["cut"] == {
        way: dict(zip(("queries", "documents"), shares, strict=True))
        for way, shares in (("together", together), ("apart", apart))
    }
    said = "mine/test: text.pair_tokens drops 20% of the documents' tokens where query and document are read apart."
    assert (said in manifest["notes"]) == bool(query_tokens)
    assert (
        "20.0% of the candidates' where query and document are read apart"
        in contract(study, collection, "mine/test")["length"]
        or not query_tokens
    )


def test_a_language_without_blanks_is_read_and_what_the_tokenizer_does_not_know_is_said(new_study, tmp_path):
    """WordPiece takes a word of more than a hundred letters, as sentences without blanks are, for an unknown one."""
    syllables = ["กา", "ขา", "งาน", "จาน", "ชาม", "ดาว", "ตาม", "นาน", "บาน", "ปลา"]

    def sentence(number):
        return "".join(random.Random(number).choices(syllables, k=50))  # over a hundred letters

    lines = [{"query": sentence(n)[-30:], "positive": sentence(n)} for n in range(2, 400)]
    write(tmp_path / "params" / "mine.jsonl", "\n".join(map(json.dumps, lines)))
    study = new_study("mine", collection={"pairs": "mine.jsonl"}, training=TRAINING)
    collection = open_collection(study)
    assert collection.manifest["unknown"] == {"queries": 0.0, "documents": 0.0}
    pairs = collection.pairs()
    assert pairs.documents.lengths(np.arange(20)).min() > 10
    tokenizer = StudyTokenizer.load(collection.tokens)
    _, letters, unknown = tokenizer.counts(["กา ΩΩ", "ขา"]).T
    assert (letters.tolist(), unknown.tolist()) == ([4, 2], [2, 0])
    (said,) = _unknown("covid", {"queries": 0.0, "documents": 0.42})
    assert said.startswith("covid: 42% of the documents' letters stand in words that the tokenizer does not know")
