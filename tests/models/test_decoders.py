"""Decoders: read from a folder, trained, scored, saved, and read again by their users' own tools."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from rankscale_utils.collections import open_collection
from rankscale_utils.evaluation.evaluate import evaluate_run
from rankscale_utils.models.build import build_model, count_rung
from rankscale_utils.models.checkpoint import load_checkpoint, model_of_folder, save_checkpoint
from rankscale_utils.models.checks import check_pretrained
from rankscale_utils.models.counts import parameters, pass_flops
from rankscale_utils.models.flat_encoders import is_unpadded
from rankscale_utils.scoring.pairs import score_pairs
from rankscale_utils.scoring.rerank import rerank
from rankscale_utils.scoring.systems import cross_encoder_systems
from rankscale_utils.study import paths
from rankscale_utils.training.run import train
from tests.conftest import TINY
from tests.models.documented import table
from tests.models.test_architectures import tokenised
from tests.models.test_exports import PAIRS, ROWS, sentence_transformers
from tests.models.tiny import FEW_TEXTS
from tests.models.tiny_decoders import DECODERS, save_decoder

__all__ = ["sentence_transformers"]  # a fixture
CPU = torch.device("cpu")
SCORED = [(name, way) for name in DECODERS for way in ("head", "yes_no") if (name, way) != ("gemma2", "yes_no")]
FLAT = {"gemma", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"}
WIDTHS = (8, 12, 16, 24)
SCORED_BY = {
    "head": "a head on the last token's state",
    "yes_no": "the logit of one word less that of another after the prompt",
}
WAYS = {"head": {}, "yes_no": {"template": "qwen3-reranker"}}


@pytest.fixture
def of(new_study, tmp_path):
    """Return what makes a study of small rungs that are decoders."""

    def made(architecture, way="head", query_tokens=None, decoder=None, pair_tokens=160, training=None, **settings):
        for width in WIDTHS:
            save_decoder(tmp_path / "params" / f"w{width}", architecture, width, **settings)
        return new_study(
            architecture=None,
            docstrings=FEW_TEXTS,
            ladder={f"w{width}": f"w{width}" for width in WIDTHS},
            held_out={"rungs": ["w24"]},
            objectives={"listwise": {"seeds": [0], "learning_rate": {"base": 1e-3}}},
            training=TINY["training"] | {"exposures": [48, 96]} | (training or {}),
            text={"query_tokens": query_tokens, "pair_tokens": pair_tokens},
            decoder=WAYS[way] if decoder is None else decoder,
            evaluation={"queries": 10, "depth": 10},
        )

    return made


@torch.inference_mode()
def theirs(folder, way, tokens, longest):
    """Return the scores that transformers makes of the pairs, padded and cut by itself."""
    tokenizer = AutoTokenizer.from_pretrained(tokens)
    cut = {"truncation": "longest_first", "max_length": longest, "padding": True, "return_tensors": "pt"}
    given = tokenizer(*map(list, zip(*PAIRS, strict=True)), **cut)
    if way == "head":
        classifier = AutoModelForSequenceClassification.from_pretrained(folder, pad_token_id=tokenizer.pad_token_id)
        return classifier.eval()(**given).logits[:, 0].numpy()
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    last = model(**given).logits[torch.arange(len(PAIRS)), given["attention_mask"].sum(1) - 1]
    yes, no = (tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
    return (last[:, yes] - last[:, no]).numpy()


@pytest.mark.parametrize(("architecture", "way"), SCORED)
def test_a_decoder_scores_as_its_users_tools_have_it(of, architecture, way, tmp_path, sentence_transformers):
    study = of(architecture, way, head=way == "head")
    check_pretrained(study)
    tokenizer, pairs = tokenised(study, tmp_path / "tokens")
    model = build_model(study, study.run("listwise-w16-s0"), tokenizer.tokenizer.get_vocab_size()).eval()
    assert is_unpadded(model.encoder) == (architecture in FLAT)
    assert parameters(model) == count_rung(study, "cross_encoder", "w16", 300)
    ours = score_pairs(model, pairs, *ROWS)
    assert ours.std() > 0.01
    expected = theirs(study.pretrained["w16"], way, tmp_path / "tokens", tokenizer.pair_tokens)
    np.testing.assert_allclose(ours, expected, atol=1e-5, rtol=0)

    path = tmp_path / "exposure-000000096"
    save_checkpoint(model, path, tmp_path / "tokens")
    np.testing.assert_allclose(theirs(path, way, path, tokenizer.pair_tokens), ours, atol=1e-5, rtol=0)
    np.testing.assert_allclose(score_pairs(model_of_folder(path), pairs, *ROWS), ours, atol=1e-6, rtol=0)
    as_reranker = sentence_transformers.CrossEncoder(str(path), device="cpu")
    np.testing.assert_allclose(as_reranker.predict(PAIRS, batch_size=7), ours, atol=1e-5, rtol=0)


STARTS = {"head": "pretrained, with a new head", "yes_no": "a language model's, its words included"}


@pytest.mark.parametrize(("architecture", "way"), SCORED)
def test_a_decoder_trains_and_is_evaluated(of, architecture, way, tmp_path):
    study = of(architecture, way, query_tokens=12)
    run, collection = study.run("listwise-w16-s0"), open_collection(study)
    vocabulary = collection.tokenizer().get_vocab_size()
    start = build_model(study, run, vocabulary)
    ledger = train(study, run, collection, CPU)
    assert ledger["status"] == "complete"
    assert ledger["start"] == STARTS[way]
    assert ledger["scored_by"] == SCORED_BY[way]
    assert ledger["batches"] == ("flat, without padding" if architecture in FLAT else "padded, of like length")
    assert 0 <= ledger["padding"] < (1e-9 if architecture in FLAT else 0.1)
    assert ledger["flops_counted"] == 1
    path = paths.checkpoint_file(study.run_folder(run), 96)
    trained = load_checkpoint(build_model(study, run, vocabulary), path).eval()
    moved = [not torch.equal(tensor, start.state_dict()[name]) for name, tensor in trained.state_dict().items()]
    assert np.mean(moved) > 0.9
    assert evaluate_run(study, run, collection, CPU)["excluded"].eq("").all()


def test_the_table_of_the_documentation_says_what_these_tests_found():
    said = {name: rest for name, _, *rest in table("architecture", "batches", "scores")[1:]}
    ways = {name: ", ".join(way for known, way in SCORED if known == name) for name in DECODERS}
    held = {f"`{name}`": ["flat" if name in FLAT else "padded", ways[name], *["yes"] * 5] for name in DECODERS}
    assert said == held


@pytest.mark.parametrize("way", WAYS)
def test_a_served_decoder_scores_alike_and_reads_a_query_once(of, way, tmp_path):
    study = of("qwen3", way, query_tokens=12)
    tokenizer, pairs = tokenised(study, tmp_path / "tokens")
    model = build_model(study, study.run("listwise-w16-s0"), tokenizer.tokenizer.get_vocab_size()).eval()
    rounded, system = cross_encoder_systems(model, pairs, rounded="int8"), cross_encoder_systems(model, pairs)
    ours = score_pairs(model, pairs, *ROWS).reshape(5, 5)
    for query in range(5):
        np.testing.assert_allclose(system.score(query, np.arange(5)), ours[query], atol=1e-5, rtol=0)
        assert 0 < np.abs(rounded.score(query, np.arange(5)) - ours[query]).max() < 0.5
    layout, counted = tokenizer.layout, pass_flops(model)
    shared, length = len(layout.before) + 9 + len(layout.between), layout.special + 9 + 40
    assert system.flops_per_pair(9, 40, 1) < counted.forward(length)
    once, twice = (documents * system.flops_per_pair(9, 40, documents) for documents in (1, 2))
    own = length - shared
    assert twice - once == pytest.approx(counted.per_token * own + counted.per_token_pair * own * length, rel=1e-3)
    assert once - (twice - once) == pytest.approx(counted.forward(shared))


def test_a_readme_says_the_prompt_the_words_and_the_lengths(of, tmp_path):
    study = of("llama", "yes_no", query_tokens=12)
    tokenised(study, tmp_path / "tokens")
    save_checkpoint(build_model(study, study.run("listwise-w8-s0"), 300), tmp_path / "saved", tmp_path / "tokens")
    readme = (tmp_path / "saved" / "README.md").read_text()
    assert "A query is cut after 12 tokens; then the document gives way." in readme
    assert "    <Query>: {query}\n    <Document>: {document}<|im_end|>\n" in readme
    code = readme.split("## Loading\n\n")[1].split("\n\n")[0].replace('"this folder"', repr(str(tmp_path / "saved")))
    lines = [line.strip() for line in code.splitlines()]
    names = {}
    exec("\n".join([*lines[:-1], f"score = {lines[-1]}"]), names)
    found = rerank(tmp_path / "saved", "a query", ["a document"])["score"][0]
    assert found == pytest.approx(names["score"].item(), abs=1e-5)
