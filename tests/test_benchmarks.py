"""The benchmarks run, compare sides that score alike, and write their page; how long anything takes is not tested."""

import logging
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from transformers import BertConfig, T5Config

from benchmarks import common, ed2lm, gpu, growth, growth_of_collections, growth_of_laws, scoring, shared_queries
from tests.conftest import use_root

WORDS = ["apples", "pears", "count", "ripe", "green", "trees", "fall", "baskets"]


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Return a small corpus, a tiny shape called `tiny` and a page of results of one's own."""
    rng = np.random.default_rng(0)
    texts = [[" ".join(rng.choice(WORDS, rng.integers(*size))) for _ in range(20)] for size in ((2, 5), (3, 40))]
    found = common.Corpus("fruit", *texts, rng.integers(20, size=60), rng.integers(20, size=60))
    monkeypatch.setattr(common, "SHAPES", {"tiny": ("bert", 2, 32, 64, 2)})
    monkeypatch.setattr(common, "PAGE", tmp_path / "benchmarks.md")
    monkeypatch.setattr(common, "VOCABULARY", 300)
    monkeypatch.setattr(common, "corpus", lambda pairs: found)
    monkeypatch.setattr(scoring, "MATRIX", 64)
    return found


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_scoring_compares_sides_that_score_alike(small, monkeypatch, kind):
    monkeypatch.setitem(common.SHAPES, "tiny", (kind, 2, 32, 64, 2))
    monkeypatch.setattr("sys.argv", ["scoring", "--pairs", "60", "--repeats", "1", "--shapes", "tiny"])
    scoring.main()
    page = common.PAGE.read_text()
    assert page.startswith("# Benchmarks\n")
    assert "## Scoring: tiny\n" in page
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")][1:]
    exact = [row for row in rows if row[1] == "float32" and "×" in row[3]]  # not those whose packages are missing
    assert {"| ours", "| `CrossEncoder.predict`", "| plain loop"} <= {row[0] for row in exact}
    assert {row[6].rstrip(" |") for row in exact} == {"1.00000"}


def test_embedding_compares_sides_that_embed_alike(small, monkeypatch):
    pytest.importorskip("sentence_transformers")
    from benchmarks import embedding

    monkeypatch.setattr("sys.argv", ["embedding", "--texts", "20", "--repeats", "1", "--shapes", "tiny"])
    embedding.main()
    rows = [line for line in common.PAGE.read_text().splitlines() if line.startswith("| tiny")]
    assert [row.split(" | ")[1].split(",")[0] for row in rows] == ["ours", "`encode`", "`encode` at its best"]


def test_a_section_of_the_page_is_written_once(small):
    for text in ("first", "second"):
        common.publish("Fruit", text)
    page = common.PAGE.read_text()
    assert page.count("## Fruit\n") == 1
    assert "second" in page
    assert "first" not in page


def test_ndcg_of_a_side_is_that_of_its_order(small, monkeypatch):
    found = small.first(4)
    found.query_rows[:], found.document_rows[:] = 0, range(4)
    judgments = pd.DataFrame({"query_id": ["0"], "doc_id": ["2"], "relevance": [1]})
    monkeypatch.setattr(common, "judged", lambda depth: (found, judgments))
    side = scoring.Side("side", "float32", "8", lambda of: np.array([0.5, 2.0, 1.0, 0.1]))
    assert scoring.quality(side) == pytest.approx(1 / np.log2(3))


def test_training_takes_the_same_steps_as_sentence_transformers(small, monkeypatch):
    pytest.importorskip("datasets", reason="sentence-transformers' trainer needs datasets, which `make bench` installs")
    from benchmarks import training

    monkeypatch.setattr("sys.argv", ["training", "--steps", "2", "--repeats", "1", "--shapes", "tiny"])
    monkeypatch.setenv("RANKSCALE_PROGRESS", os.devnull)  # which is to be as before when this test is over
    monkeypatch.setattr(logging, "disable", lambda level: None)
    monkeypatch.setattr(training, "CANDIDATES", 2)
    monkeypatch.setattr(training, "QUERIES", 4)
    training.main()
    assert common.PAGE.read_text().count("| tiny |") == 2


def test_every_way_to_read_stored_documents_is_timed_and_counted(small, monkeypatch):
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
    monkeypatch.setattr(ed2lm, "BASE", T5Config(vocab_size=32128, **shape))
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    monkeypatch.setattr(ed2lm, "BertConfig", lambda: BertConfig(**shape))
    monkeypatch.setattr(ed2lm, "K", 6)
    monkeypatch.setattr("sys.argv", ["ed2lm", "--length", "16", "--slow", "2", "--repeats", "1", "--threads", "1"])
    ed2lm.main()
    page = common.PAGE.read_text()
    assert "## ED2LM, documents of 16 tokens\n" in page
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| ") and "[" in line]
    assert len(rows) == 13
    assert all(float(row[-2]) >= 0 for row in rows)  # counted operations


def test_reading_a_query_once_scores_as_reading_it_for_every_candidate(small, monkeypatch):
    monkeypatch.setattr(shared_queries, "SHAPES", {"tiny": ("qwen3", 32, 64, 2, 1, 16)})
    monkeypatch.setattr(shared_queries, "CANDIDATES", 2)
    monkeypatch.setattr("sys.argv", ["shared_queries", "--layers", "1", "--repeats", "1", "--shapes", "tiny"])
    shared_queries.main()
    page = common.PAGE.read_text()
    assert page.count("| tiny | plain |") == page.count("| tiny | qwen3-reranker |") == 1


def test_every_text_is_tokenised_once_and_pairs_keep_their_words(small):
    reader = common.tokenizer(small, 300)
    pairs = common.tokenised(small, reader)
    ids, mask, *_ = pairs.batch(small.query_rows[:5], small.document_rows[:5])
    for (query, document), row, kept in zip(small.texts()[:5], ids, mask, strict=True):
        assert reader.tokenizer.decode(row[kept.bool()].tolist()) == f"{query} {document}"


def test_growth_has_the_slope_of_its_points():
    assert growth.slope([10, 100, 1000], [2.0, 20.0, 200.0]) == pytest.approx(1)
    page = growth.of("pairs", [growth.Point(pairs, 32, 1, 32) for pairs in (20, 40)], growth.measured, 1)
    assert page.startswith("Seconds grow with pairs to the power of ")
    _, _, *rows = page.splitlines()[2:]
    pairs, seconds, memory = np.array([row.strip("| ").replace(",", "").split(" | ") for row in rows], float).T
    assert pairs.tolist() == [20, 40]
    assert (seconds > 0).all()
    assert (memory > 50).all()


def test_growth_of_forecasts_is_of_so_many_series_and_runs():
    table = growth_of_laws.measurements(growth_of_laws.Ladder(series=3, runs=12))
    assert table.groupby(["metric", "exposure"])["seed"].size().tolist() == [12] * 3 * 4
    assert growth_of_laws.measured(growth_of_laws.Ladder(series=1, runs=6), 1) > 0


def test_growth_of_collections_measures_every_stage_of_a_study_of_files(monkeypatch, tmp_path):
    use_root(monkeypatch, tmp_path)
    training = growth_of_collections.STUDY["training"] | {"exposures": [160]}
    monkeypatch.setitem(growth_of_collections.STUDY, "training", training)
    file = growth_of_collections.write(tmp_path, 2000)
    assert len((tmp_path / "documents.jsonl").read_text().splitlines()) == 2000
    assert all(growth_of_collections.measured(stage, file) > 0 for stage in growth_of_collections.STAGES)
    (measurements,) = (tmp_path / "runs").rglob("measurements.parquet")
    first_stage = pd.read_parquet(measurements).set_index("metric")["first_stage"]
    assert first_stage["nDCG@10"] > 0.5  # its own words lead to the passage that a query is made of


def test_ratios_are_of_repeats_side_by_side():
    assert common.ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == "2.00× [1.00, 3.00]"
    taken = []
    seconds = common.in_turns({"one": lambda: taken.append(1), "two": lambda: taken.append(2)}, 2)
    assert taken == [1, 2, 1, 2, 1, 2]
    assert {name: len(some) for name, some in seconds.items()} == {"one": 2, "two": 2}


def test_a_size_that_fails_on_a_gpu_keeps_no_other_from_being_measured(monkeypatch):
    monkeypatch.setattr(gpu, "SIZES", ["small", "large", "larger"])
    rows = []

    def work(shape, folder):
        assert folder.is_dir()
        if shape == "large":
            raise ValueError("no room")
        rows.append({"shape": shape})

    gpu._at_every_size(lambda **row: rows.append(row), work)
    assert rows == [{"shape": "small"}, {"shape": "large", "failed": "ValueError: no room"}, {"shape": "larger"}]


def test_a_gpus_ladder_is_tested_on_texts_that_no_training_pair_holds():
    texts = [str(number) for number in range(80)]
    found = common.Corpus("numbers", texts, texts, np.arange(80), np.arange(80))
    queries, documents = gpu._test_pairs(found, 5)
    assert (queries == np.arange(72, 80)[:, None]).all()
    assert (documents[:, 0] == queries[:, 0]).all()
    assert all(len(set(row)) == 5 for row in documents)
    assert not set(documents.ravel()) & set(gpu._random_negatives(found).document_rows)


def test_nothing_of_a_part_that_took_too_long_goes_on_beside_the_next_one(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(gpu, "LIMITS", {"tests": 1})
    monkeypatch.setattr(gpu, "PATIENCE", 1)
    (tmp_path / "python").write_text(f"#!/bin/sh\nsleep 60 & echo $! > {tmp_path}/started; wait\n")
    (tmp_path / "python").chmod(0o700)
    gpu.run(tmp_path, 1, ["tests"])
    assert "Stopped after 1 s" in (tmp_path / "gpu.md").read_text()
    state = Path(f"/proc/{(tmp_path / 'started').read_text().strip()}/stat")
    deadline = time.monotonic() + 10
    while state.exists() and state.read_bytes().rpartition(b")")[2].split()[0] != b"Z":
        assert time.monotonic() < deadline


def test_a_part_that_was_killed_says_so_and_the_next_one_runs(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu.sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text('#!/bin/sh\ncase "$*" in *feeding*) kill -9 $$;; esac\n')
    (tmp_path / "python").chmod(0o700)
    gpu.run(tmp_path, 1, ["feeding", "ladder"])
    page = (tmp_path / "gpu.md").read_text()
    assert "It failed: it was killed (SIGKILL, most likely for want of memory)." in page
    assert "Done after 0 s" in page
