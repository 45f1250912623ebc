"""Published folders as they are: each works, or is refused in one sentence before any work."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, MT5Config
from transformers import MT5ForConditionalGeneration as MT5

from rankscale_utils.collections.tokens import Pairs, Texts, study_tokenizer
from rankscale_utils.errors import StudyError
from rankscale_utils.models.build import build_model
from rankscale_utils.models.checks import check_pretrained, start_of
from rankscale_utils.pipeline.prepare import prepare
from rankscale_utils.scoring.pairs import score_pairs
from tests.conftest import TINY
from tests.models.tiny import save_encoder, sentence_pieces

WIDTHS = (8, 12, 16, 24)


@pytest.fixture
def study(new_study, tmp_path):
    """Return what makes a study of four small rungs, of which the third is to be changed."""

    def made(architecture="xlm-roberta", objective="listwise", **settings):
        for width in WIDTHS:
            save_encoder(tmp_path / "params" / f"w{width}", architecture, width, **settings)
        return new_study(
            architecture=None,
            ladder={f"w{width}": f"w{width}" for width in WIDTHS},
            held_out={"rungs": ["w24"]},
            objectives={objective: {"seeds": [0], "learning_rate": {"base": 1e-3}}},
            training=TINY["training"],
            text={"query_tokens": None, "pair_tokens": 60},
        )

    return made


@pytest.fixture
def folder(tmp_path):
    """Return the folder of the rung that is to be changed."""
    return tmp_path / "params" / "w16"


def refused(study, sentence):
    with pytest.raises(StudyError, match=sentence) as caught:
        prepare(study)
    assert "\n" not in str(caught.value)
    assert not study.folder.exists()


def test_a_finished_rerankers_head_is_kept_and_said(study, folder):
    made = study(reranker=True)
    check_pretrained(made)
    model = build_model(made, made.run("listwise-w16-s0"), 300)
    own = AutoModelForSequenceClassification.from_pretrained(folder)
    assert torch.equal(model.head.classifier.classifier.out_proj.weight, own.classifier.out_proj.weight)
    assert start_of(made, "cross_encoder", "w16") == "a reranker's, its head included"


def test_a_bi_encoder_says_that_a_head_is_left_out(study):
    made = study(objective="contrastive", reranker=True)
    check_pretrained(made)
    said = start_of(made, "bi_encoder", "w16")
    assert said == "pretrained, with a new projection and without their own head for scores"


def test_preparing_says_what_rungs_start_from(study, capsys):
    prepare(study(reranker=True))
    assert "cross_encoder w16 starts from a reranker's, its head included" in capsys.readouterr().err.replace(
        "weights: ", ""
    )


def test_a_finished_reranker_keeps_the_states_that_its_head_reads(study):
    made = study(reranker=True)
    made.ladder["w16"] = made.ladder["w16"].model_copy(update={"reads": "mean"})
    refused(
        made, r"^ladder\.w16\.reads = mean: .* is a finished reranker, which keeps its own head: remove it, or save"
    )


def test_a_head_that_scores_every_token_is_refused_and_a_new_one_reads_the_first(study):
    refused(study("eurobert", reranker=True), r"^ladder\.w8 = .*scores every token \(classifier_pooling: late\)")
    made = study("eurobert")
    check_pretrained(made)
    assert build_model(made, made.run("listwise-w16-s0"), 300).reads == "cls"


def test_a_finished_reranker_without_its_heads_weights_is_refused(study, folder):
    made = study()
    config = AutoConfig.from_pretrained(folder, num_labels=1, architectures=["XLMRobertaForSequenceClassification"])
    config.save_pretrained(folder)
    refused(made, r"^ladder\.w16 = .*its weights lack 4 tensors of a finished reranker, classifier\.dense\.bias among")


def test_positions_end_earlier_where_they_begin_behind_the_paddings(study):
    made = study(max_position_embeddings=61)  # of which two are the padding's and what lies before
    refused(made, r"^text\.pair_tokens = 60: ladder\.w8 = .* reads 59 tokens at most: lower pair_tokens\.$")
    check_pretrained(study(max_position_embeddings=62))


def test_an_encoder_whose_scores_are_others_in_transformers_is_refused(study, monkeypatch):
    from tests.models import tiny

    attention = {"attention_window": 8, "pad_token_id": 1}
    monkeypatch.setitem(tiny.ENCODERS, "longformer", attention)
    monkeypatch.setattr(tiny, "ROBERTAS", (*tiny.ROBERTAS, "longformer"))
    refused(study("longformer"), r"^ladder\.w8 = .*: a longformer's scores here are not those of")


def test_an_encoder_that_reads_more_than_token_ids_is_refused(study, monkeypatch):
    from tests.models import tiny

    monkeypatch.setitem(tiny.ENCODERS, "xmod", {"pad_token_id": 1, "languages": ["en_XX", "de_DE"]})
    monkeypatch.setattr(tiny, "ROBERTAS", (*tiny.ROBERTAS, "xmod"))
    refused(study("xmod"), r"^ladder\.w8 = .*: transformers cannot run this xmod on token ids alone \(Input language")


def test_a_rerankers_default_prompt_is_refused(study, folder):
    made = study(reranker=True)
    prompts = {"model_type": "CrossEncoder", "prompts": {"task": "Find: "}, "default_prompt_name": "task"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    refused(made, r"^ladder\.w16 = .* puts 'Find: ' before queries, which training does not: take default_prompt_name")


@pytest.mark.parametrize("kind", ["mt5", "vit"])
def test_what_is_no_encoder_is_refused(study, folder, kind):
    made = study()
    if kind == "mt5":
        tokenizer = sentence_pieces()
        config = MT5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
        MT5(config).save_pretrained(folder)
    else:
        AutoConfig.for_model("vit", hidden_size=16, num_hidden_layers=2).save_pretrained(folder)
    refused(made, rf"^ladder\.w16 = .* is a {kind} model: cross_encoder needs an encoder, such as BERT, RoBERTa or")


@torch.inference_mode()
def test_real_weights_score_as_transformers_has_them(new_study, minilm):
    study = new_study(
        architecture=None,
        ladder={f"d{layers}": {"pretrained": str(minilm), "layers": layers} for layers in (1, 2, 3, 4, 5, 6)},
        held_out={"rungs": ["d6"]},
        objectives={"listwise": {"learning_rate": {"base": 1e-4}}},
        text={"query_tokens": None, "pair_tokens": 128},
    )
    check_pretrained(study)
    tokenizer = study_tokenizer(study, [])
    queries, documents = ["How is a date parsed?", "parse " * 200], ["Return a date.", "Close the file. " * 100, ""]
    pairs = Pairs(*(Texts.encoded(tokenizer, texts, 128) for texts in (queries, documents)), tokenizer)
    rows = np.repeat([0, 1], 3), np.tile([0, 1, 2], 2)
    model = build_model(study, study.run("listwise-d6-s0"), tokenizer.tokenizer.get_vocab_size()).eval()
    config = AutoConfig.from_pretrained(minilm, num_labels=1)
    theirs = AutoModelForSequenceClassification.from_pretrained(minilm, config=config).eval()
    theirs.classifier.load_state_dict(model.head.classifier.classifier.state_dict())
    texts = [[queries[row] for row in rows[0]], [documents[row] for row in rows[1]]]
    own = AutoTokenizer.from_pretrained(minilm)
    given = own(*texts, truncation=True, max_length=tokenizer.pair_tokens, padding=True, return_tensors="pt")
    np.testing.assert_allclose(score_pairs(model, pairs, *rows), theirs(**given).logits[:, 0], atol=1e-5, rtol=0)
