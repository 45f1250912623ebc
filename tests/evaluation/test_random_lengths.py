"""Systems with random weights: every family's, from scratch or pretrained, timed on texts of one length."""

import numpy as np
import pandas as pd
import pytest
import torch

from rankscale_utils.analysis.speedup import beside_counts
from rankscale_utils.collections import open_collection
from rankscale_utils.evaluation.random_lengths import fixed_lengths, measure_lengths, of_rung, random_pairs
from rankscale_utils.models.build import build_model, count_rung
from rankscale_utils.models.counts import parameters
from rankscale_utils.report import speedup as speedup_page
from rankscale_utils.scoring import systems
from tests.models.tiny import save_pretrained

CPU = torch.device("cpu")
RATE = {"learning_rate": {"base": 3.0e-3}}
TRIO = {"listwise": RATE, "contrastive": RATE | {"in_batch": True}, "true_false": RATE}
STORED = ["states projected", "states", "states pooled by 2", "keys and values"]
NAMES = ["cross-encoder", "cross-encoder, int8", "bi-encoder", "ED2LM in full", *(f"ED2LM, {way}" for way in STORED)]
OF_NARROW = [name for name in NAMES if "int8" not in name]  # models that gain nothing by integers
TIMED = pd.DataFrame(
    [
        ("cross-encoder", "cross_encoder", 64, 2.0, 10.0),
        ("ED2LM, states", "ed2lm", 64, 1.0, 4.0),
        ("cross-encoder", "cross_encoder", 512, 30.0, 100.0),
        ("ED2LM, states", "ed2lm", 512, 5.0, 10.0),
    ],
    columns=["name", "family", "document_tokens", "p50_ms", "flops_per_pair"],
)


@pytest.fixture
def trio(new_study):
    """Return the tiny study with every family; ED2LM's encoder has one layer of its own."""
    return new_study("trio", objectives=TRIO, ed2lm={"encoder_layers": 1, "poolings": [1, 2]})


@pytest.mark.parametrize(
    ("dtype", "wide"), [(torch.float32, True), (torch.float32, False), (torch.bfloat16, True)], ids=str
)
def test_a_rung_with_random_weights_becomes_every_system(trio, tmp_path, monkeypatch, dtype, wide):
    monkeypatch.setattr(systems, "is_wide", lambda model: wide)
    tokenizer = open_collection(trio).pairs().tokenizer
    pairs = random_pairs(tokenizer, queries=2, query_tokens=7, documents=5, document_tokens=90)
    made = of_rung(trio, "w8", TRIO, pairs, tmp_path, CPU, dtype)
    rounded = wide and dtype == torch.float32  # only such models are rounded to integers
    assert [system.name for system in made] == (NAMES if rounded else OF_NARROW)
    vocabulary = tokenizer.tokenizer.get_vocab_size()
    for system in made:
        scores = system.score(1, np.arange(5))
        assert scores.shape == (5,)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()
        assert system.dtype == (torch.qint8 if "int8" in system.name else dtype)
        longest = system.flops_per_pair(7, 90, 100)
        assert system.flops_per_pair(7, 500, 100) == longest > 0
        counted = count_rung(trio, system.family, "w8", vocabulary).non_embedding
        assert (system.rung, system.params_non_embedding) == ("w8", counted)


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_a_pretrained_rung_reads_documents_that_its_own_positions_are_too_few_for(new_study, tmp_path, architecture):
    for width in (8, 12, 16, 24):
        save_pretrained(tmp_path / "params" / f"w{width}", architecture, width, positions=64)
    rungs = {name: name for name in ("w8", "w12", "w16", "w24")}
    study = new_study("pretrained", architecture=None, ladder=rungs, held_out={"rungs": ["w24"]})
    collection = open_collection(study)
    table = measure_lengths(study, collection, CPU, lengths=(32, 96), queries=1, repeats=1)
    assert table[["name", "rung", "document_tokens"]].to_numpy().tolist() == [
        ["cross-encoder", "w24", length] for length in (32, 96)
    ]
    model = build_model(study, study.run("listwise-w24-s0"), collection.tokenizer().get_vocab_size())
    assert set(table["params_non_embedding"]) == {parameters(model).non_embedding}
    assert model.encoder.config.max_position_embeddings == 64


def test_all_documents_have_the_length_that_is_asked_for(trio, tmp_path):
    seen, tokenizer = [], open_collection(trio).pairs().tokenizer

    def build(pairs):
        seen.append(pairs)
        return of_rung(trio, "w8", TRIO, pairs, tmp_path, CPU)

    settings = {"lengths": (16, 32), "depths": (2, 4), "queries": 2, "batches": (2, 4), "repeats": 1}
    table = fixed_lengths(build, tokenizer, **settings)
    assert len(table) == 2 * 7 * 2  # lengths × systems × depths
    for pairs, length in zip(seen, (16, 32), strict=True):
        assert set(np.diff(pairs.documents.starts)) == {length}
        assert set(pairs.lengths(np.array([0, 1]), np.array([0, 3]))) == {12 + length + 3}
    by_length = table.pivot_table(index=["name", "depth"], columns="document_tokens", values="flops_per_pair")
    grows = by_length[32] > by_length[16]
    assert grows.drop("bi-encoder").all()
    stored = table.pivot_table(index="name", columns="document_tokens", values="bytes_per_document")
    assert (stored[32] / stored[16]).loc["ED2LM, states"] == pytest.approx(2, rel=0.2)


def test_the_largest_rung_is_timed_in_every_family_wherever_the_ladder_names_it(trio):
    largest_first = trio.model_copy(update={"ladder": dict(reversed(trio.ladder.items()))})
    table = measure_lengths(largest_first, open_collection(trio), CPU, (16, 32), queries=1, repeats=2)
    assert set(table["rung"]) == {"w12"}
    assert sorted(table["name"]) == sorted(OF_NARROW * 2)
    assert set(table["depth"]) == set(table["batch"]) == {trio.evaluation.depth}
    assert set(table["repeats"]) == {2}
    written = pd.read_csv(trio.folder / "fixed_lengths.csv")
    pd.testing.assert_frame_equal(written, table, check_dtype=False)
    compared = beside_counts(table)
    assert "nan" not in speedup_page.lengths_sentence(compared)
    labels = speedup_page.latency_by_length(compared).figure.legends[0].get_texts()
    assert sorted(text.get_text() for text in labels) == sorted(OF_NARROW)


def test_measured_ratios_stand_beside_counted_ones():
    table = beside_counts(TIMED)
    assert table["faster"].tolist() == [1, 2, 1, 6]
    assert table["faster_counted"].tolist() == [1, 2.5, 1, 10]
    assert table["grown"].tolist() == [1, 1, 15, 5]
    assert table["grown_counted"].tolist() == [1, 1, 10, 2.5]
    assert speedup_page.lengths_sentence(table.assign(depth=20)) == (
        "cross-encoder needs 30.0 ms for a query's 20 documents of 512 tokens, 15.0 times as long as for 64 tokens (by "
        "FLOPs 10.0 times). So many times as fast, and in brackets by FLOPs: ED2LM, states 6.0 (10.0)."
    )


def test_one_system_is_compared_with_itself_alone():
    alone = beside_counts(TIMED[TIMED["family"] == "ed2lm"]).assign(depth=20)
    assert speedup_page.lengths_sentence(alone).endswith("5.0 times as long as for 64 tokens (by FLOPs 2.5 times).")


def test_lines_go_through_the_measured_latencies():
    axes = speedup_page.latency_by_length(TIMED.assign(p50_low=0.5 * TIMED["p50_ms"], p50_high=2 * TIMED["p50_ms"]))
    lines = {box.get_label(): box.lines for box in axes.containers}
    assert lines["ED2LM, states"][0].get_ydata().tolist() == [1.0, 5.0]
    (bars,) = lines["cross-encoder"][2]
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [[1.0, 4.0], [15.0, 60.0]]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
