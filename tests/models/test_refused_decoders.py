"""Decoders' folders as they are published: each works, or is refused in one sentence before any work."""

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rankscale_utils.errors import StudyError
from rankscale_utils.models.build import build_model
from rankscale_utils.models.checks import check_pretrained, start_of
from rankscale_utils.scoring.pairs import score_pairs
from rankscale_utils.study.loading import load_study
from tests.conftest import TINY
from tests.models import tiny_decoders
from tests.models.test_architectures import tokenised
from tests.models.test_decoders import of, theirs
from tests.models.test_exports import ROWS
from tests.models.test_refused_models import refused
from tests.models.tiny import save_encoder

__all__ = ["of"]  # a fixture


@pytest.fixture
def folder(tmp_path):
    """Return the folder of the rung that is to be changed."""
    return tmp_path / "params" / "w16"


def test_a_tokenizer_without_a_pad_token_or_chat_template_pads_with_its_end_token(of, tmp_path):
    study = of("llama", head=False, pad=False, begin=True)
    check_pretrained(study)
    tokenizer, pairs = tokenised(study, tmp_path / "tokens")
    assert tokenizer.special["pad_token"] == "<|im_end|>"
    model = build_model(study, study.run("listwise-w16-s0"), 300).eval()
    assert model.encoder.config.pad_token_id == tokenizer.pad
    saved = AutoModelForSequenceClassification.from_pretrained(study.pretrained["w16"], num_labels=1)
    saved.score.load_state_dict(model.head.score.state_dict())
    saved.save_pretrained(tmp_path / "saved")
    expected = theirs(tmp_path / "saved", "head", tmp_path / "tokens", tokenizer.pair_tokens)
    np.testing.assert_allclose(score_pairs(model, pairs, *ROWS), expected, atol=1e-5, rtol=0)


def test_words_are_scored_without_a_pad_token(of, tmp_path):
    study = of("llama", head=False, pad=False, begin=True, decoder={"score": "yes_no"})
    check_pretrained(study)
    tokenizer, pairs = tokenised(study, tmp_path / "tokens")
    model = build_model(study, study.run("listwise-w16-s0"), 300).eval()
    expected = theirs(study.pretrained["w16"], "yes_no", tmp_path / "tokens", tokenizer.pair_tokens)
    np.testing.assert_allclose(score_pairs(model, pairs, *ROWS), expected, atol=1e-5, rtol=0)


def test_a_head_reads_the_token_before_the_paddings_at_a_prompts_end_as_transformers_does(of, tmp_path):
    study = of("qwen3", head=True, decoder={"template": "Query: {query} Document: {document}<|endoftext|>"})
    check_pretrained(study)
    tokenizer, pairs = tokenised(study, tmp_path / "tokens")
    model = build_model(study, study.run("listwise-w16-s0"), 300).eval()
    expected = theirs(study.pretrained["w16"], "head", tmp_path / "tokens", tokenizer.pair_tokens)
    np.testing.assert_allclose(score_pairs(model, pairs, *ROWS), expected, atol=1e-5, rtol=0)


def test_a_decoder_reads_its_last_state_alone(of):
    study = of("qwen2", head=False)
    study.ladder["w16"] = study.ladder["w16"].model_copy(update={"reads": "query"})
    refused(study, r"^ladder\.w16\.reads = query: .* is a decoder \(qwen2\), whose last state alone has seen the whole")


def test_a_finished_rerankers_head_is_kept_and_said(of, folder):
    study = of("qwen2", head=True)
    own = AutoModelForSequenceClassification.from_pretrained(folder)
    assert torch.equal(build_model(study, study.run("listwise-w16-s0"), 300).head.score.weight, own.score.weight)
    assert start_of(study, "cross_encoder", "w16") == "a reranker's, its head included"


def test_a_head_where_words_are_asked_for_is_refused(of):
    study = of("qwen3", "yes_no", head=True)
    refused(study, r"^ladder\.w8 = .*it has a head for scores and says no words: set decoder\.score: head\.$")


def test_words_of_several_tokens_are_refused(of):
    study = of("qwen3", decoder={"score": "yes_no", "words": ["yes", "nonsense"]})
    refused(study, r"^decoder\.words: the tokenizer of ladder\.w8 = .* makes \d tokens of 'nonsense': choose words")


def test_an_architecture_that_has_no_head_in_transformers_is_refused(of, monkeypatch):
    monkeypatch.setitem(tiny_decoders.DECODERS, "granite", {})
    refused(of("granite"), r"transformers has no granite with a head for scores: set decoder\.score: yes_no\.$")
    check_pretrained(of("granite", "yes_no"))


def test_logits_that_are_bent_before_they_are_compared_are_refused(of):
    refused(of("gemma2", "yes_no"), r"^ladder\.w8 = .*a gemma2's scores here are not those of transformers' own")


def test_weights_without_output_rows_are_refused(of, folder):
    study = of("llama", "yes_no")
    AutoModelForCausalLM.from_pretrained(folder).model.save_pretrained(folder)
    refused(study, r"^ladder\.w16 = .*: its weights lack 1 tensors of a llama language model, lm_head\.weight among")


def test_a_prompt_that_leaves_no_room_is_refused(of):
    study = of("qwen3", "yes_no", query_tokens=12, pair_tokens=64)
    refused(study, r"^text\.pair_tokens = 64: decoder\.template takes \d+ of them, .*: raise pair_tokens to \d+")


def test_the_first_layers_alone_are_kept(of, tmp_path):
    study = of("qwen3", "yes_no")
    fields = {"d1": {"pretrained": "w16", "layers": 1}, "d2": {"pretrained": "w16", "layers": 2}}
    path = study.source
    given = yaml.safe_load(path.read_text())
    given["ladder"] = fields | {"d3": "w16", "w24": "w24"}
    path.write_text(yaml.safe_dump(given))
    shallow = load_study(study.name)
    check_pretrained(shallow)
    model, whole = (build_model(shallow, shallow.run(f"listwise-{rung}-s0"), 300) for rung in ("d2", "d3"))
    assert len(model.encoder.layers) == 2
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert start_of(shallow, "cross_encoder", "d2") == "a language model's, its words included; the first 2 layers"


def test_a_bi_encoder_of_a_decoder_is_refused(of, new_study):
    of("qwen3")
    study = new_study(
        architecture=None,
        ladder={f"w{width}": f"w{width}" for width in (8, 12, 16, 24)},
        held_out={"rungs": ["w24"]},
        objectives={"contrastive": {"learning_rate": {"base": 1e-3}}},
        training=TINY["training"],
    )
    refused(study, r"^ladder\.w8 = .* is a qwen3 model: bi_encoder needs an encoder, such as BERT, RoBERTa")


def test_rungs_that_are_encoders_and_decoders_are_no_ladder(of, folder):
    study = of("qwen3")
    save_encoder(folder.with_name("w12"), "bert", 12, max_position_embeddings=200)
    refused(study, r"^ladder: w8 = .* and w12 = .* bring different tokenizers")


def test_lora_of_an_encoder_is_refused(of, tmp_path):
    study = of("qwen3", training={"lora": {"rank": 2}})
    save_encoder(tmp_path / "params" / "w8", "bert", 8)
    refused(study, r"^training\.lora: ladder\.w8 = .* is a bert model, and this is of decoders")


def test_settings_of_decoders_without_any_are_refused(of, new_study, tmp_path):
    study = of("qwen3", "yes_no")
    save_encoder(tmp_path / "params" / "w8", "bert", 8)
    refused(
        study,
        r"^decoder: ladder\.w8 = .* is a bert model, and this is of decoders, such as Qwen or Llama: remove it\.$",
    )
    with pytest.raises(StudyError, match=r"\['w4', .* are trained from scratch, and none of them is a decoder"):
        new_study(decoder={"template": "qwen3-reranker"})
