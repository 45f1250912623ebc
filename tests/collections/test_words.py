"""BM25 in other languages than English."""

import json
import random

import pandas as pd
import pytest

from rankscale_utils.collections import bm25, open_collection
from rankscale_utils.collections.bm25 import bm25_settings, search_bm25
from rankscale_utils.collections.words import unicode_words, words_of
from rankscale_utils.errors import StudyError
from rankscale_utils.evaluation.contract import contract
from rankscale_utils.evaluation.metrics import open_test, reference_values
from rankscale_utils.study.evaluation import FirstStage
from tests.collections.test_readers import TRAINING, write


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("深度学习，很好！", "深度 度学 学习 很好"),
        ("用BM25检索 a 文档", "用 bm25 检索 文档"),
        ("カタカナ と ＡＢＣ", "カタ タカ カナ と abc"),
        ("हिन्दी भाषा", "हिन्दी भाषा"),
        ("Größe, Straße", "grösse strasse"),
        ("한국어 검색", "한국 국어 검색"),
    ],
)
def test_words_of_every_script(text, words):
    assert unicode_words(text) == words


def test_stop_words_and_stems_are_of_the_language_that_is_set():
    assert words_of(["The running dogs"], FirstStage()) == [["running", "dogs"]]
    assert words_of(["The running dogs"], FirstStage(stemmer="porter")) == [["run", "dog"]]
    assert words_of(["Die Häuser und der Hund"], FirstStage(language="de", stemmer="german")) == [["haus", "hund"]]
    assert words_of(["The dog"], FirstStage(language=None)) == [["the", "dog"]]


def test_what_decides_the_scores_is_stated():
    said = bm25_settings(FirstStage())
    assert said == "bm25s lucene, k1 0.9, b 0.4; en stop words left out; no stemming, unlike Anserini's"
    stemmed = bm25_settings(FirstStage(stemmer="porter", language=None, tokenizer="unicode"))
    assert "no stop words left out; stemmed by PyStemmer's porter; words of any script" in stemmed


def test_an_unknown_stemmer_is_refused_with_those_that_are_known(new_study):
    with pytest.raises(
        StudyError, match=r"first_stage.stemmer = 'poter': is no algorithm of PyStemmer: write one of .*porter"
    ):
        new_study(first_stage={"stemmer": "poter"})


@pytest.mark.parametrize("few", [10**6, 3])
def test_stems_match_few_and_on_disk(monkeypatch, tmp_path, few):
    monkeypatch.setattr(bm25, "FEW", few)
    documents = [("a", "dogs run"), ("b", "a cat sleeps"), ("c", "birds fly"), ("d", "fish swim")]
    queries = pd.DataFrame({"query_id": ["q"], "text": ["sleeping cats"]})
    found = search_bm25(FirstStage(stemmer="porter"), documents, queries, 1, tmp_path / "index")
    assert found["document_id"].tolist() == ["b"]
    assert found["score"].iloc[0] > 0


@pytest.fixture
def chinese(new_study, tmp_path):
    """Return what writes a study of 400 Chinese documents whose queries are six characters of each."""
    chance = random.Random(1)
    letters = [chr(0x4E00 + place) for place in range(600)]
    documents = ["".join(chance.choices(letters, k=40)) for _ in range(400)]
    lines = (json.dumps({"query": text[8:14], "positive": text}, ensure_ascii=False) for text in documents)
    write(tmp_path / "params" / "zh.jsonl", "\n".join(lines))
    return lambda **first_stage: new_study(
        "zh", collection={"pairs": "zh.jsonl"}, training=TRAINING, first_stage=first_stage
    )


def test_chinese_is_found_by_pairs_of_characters(chinese):
    study = chinese(tokenizer="unicode", language="zh")
    collection = open_collection(study)
    assert reference_values(open_test(study, collection)).loc["nDCG@10", "first_stage"] == 1
    assert not [note for note in collection.manifest["notes"] if "share no word" in note]
    assert "words of any script" in contract(study, collection, "zh/test")["candidates"]


def test_queries_that_share_no_word_with_any_document_are_told_of(chinese):
    study = chinese()
    manifest = open_collection(study).manifest
    test = manifest["tests"]["zh/test"]
    assert test["queries_without_a_match"] == test["test_queries"]
    notes = [note for note in manifest["notes"] if "share no word with any document" in note]
    assert len(notes) == 2  # of training and of the test
    assert "set first_stage.tokenizer: unicode" in notes[1]
