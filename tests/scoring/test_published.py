"""Finished models score a study's texts as their users' own tools do, or are refused in one sentence."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from rankscale_utils.collections.tokens import Pairs, StudyTokenizer, Texts
from rankscale_utils.errors import StudyError
from rankscale_utils.models.checkpoint import save_checkpoint
from rankscale_utils.models.published import read_published
from rankscale_utils.scoring.published import cut_share, published_system, score_published
from rankscale_utils.study.decoder import DecoderSettings
from rankscale_utils.study.ladder import Prompts
from tests.models.tiny import save_encoder
from tests.models.tiny_decoders import save_decoder

sentence_transformers = pytest.importorskip("sentence_transformers")
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer  # noqa: E402

QUERIES = ["count the apples", "", "plum and Apple " * 40]
DOCUMENTS = ["a document of some length, with commas", "", "pear apple " * 13, "plum, the words " * 60]
ROWS = np.repeat(np.arange(3), 4), np.tile(np.arange(4), 3)


def pairs_of(published):
    """Return the texts as a model reads them, prompts and all."""
    tokenizer = StudyTokenizer(
        published.tokenizer, published.special, published.pair_tokens, segments=published.segments
    )
    parts = zip((QUERIES, DOCUMENTS), published.prompts, strict=True)
    texts = [[prompt + text for text in some] for some, prompt in parts]
    return Pairs(*(Texts.encoded(tokenizer, some, published.pair_tokens) for some in texts), tokenizer)


def their_products(folder, layers=None):
    """Return what sentence-transformers makes of every pair, its encoder cut by hand to its first layers."""
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    encoder = model[0].auto_model
    if layers:
        encoder.encoder.layer = encoder.encoder.layer[:layers]
    return model.similarity(model.encode_query(QUERIES), model.encode_document(DOCUMENTS)).numpy().ravel()


def save_bi_encoder(folder, architecture="bert", pooling="mean", layers=("dense", "normalize"), **settings):
    save_encoder(folder / "encoder", architecture, 16)
    torch.manual_seed(0)
    transformer = Transformer(str(folder / "encoder"), max_seq_length=settings.pop("longest", 40))
    made = {"dense": Dense(16, 24, activation_function=nn.Tanh()), "normalize": Normalize()}
    modules = [transformer, Pooling(16, pooling), *(made[name] for name in layers)]
    model = sentence_transformers.SentenceTransformer(modules=modules, device="cpu", **settings)
    model.save(str(folder / "model"))
    return folder / "model"


@pytest.mark.parametrize(
    ("architecture", "pooling", "layers", "settings"),
    [
        ("bert", "mean", ("normalize",), {}),
        ("xlm-roberta", "cls", ("dense", "normalize"), {}),
        ("deberta-v2", "mean", ("dense",), {"similarity_fn_name": "dot"}),
        ("modernbert", "mean", (), {"prompts": {"query": "count the words: ", "document": "a document: "}}),
    ],
)
def test_a_bi_encoder_scores_as_sentence_transformers_does(tmp_path, architecture, pooling, layers, settings):
    folder = save_bi_encoder(tmp_path, architecture, pooling, layers, **settings)
    published = read_published("systems.theirs", str(folder))
    pairs = pairs_of(published)
    ours, theirs = score_published(published, pairs, *ROWS), their_products(folder)
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)
    assert (published.family, published.pair_tokens) == ("bi_encoder", 40)
    assert theirs.std() > 1e-3
    system = published_system(published, "theirs", pairs, np.arange(4))
    np.testing.assert_allclose(system.score(0, np.arange(4)), ours[:4], atol=1e-5)
    assert (system.name, system.family, system.as_evaluated) == ("theirs", "bi_encoder", True)


def test_small_letters_are_those_of_a_prompt_too(tmp_path):
    folder = save_bi_encoder(tmp_path, "roberta", prompts={"query": "Find: ", "document": "PEAR "})
    change(folder / "sentence_bert_config.json", do_lower_case=True)
    published = read_published("systems.theirs", str(folder))
    ours = score_published(published, pairs_of(published), *ROWS)
    np.testing.assert_allclose(ours, their_products(folder), atol=1e-5, rtol=0)


def test_a_study_gives_a_bi_encoder_the_prompts_that_its_card_alone_names(tmp_path):
    folder = save_bi_encoder(tmp_path)
    before = {"query": "query: ", "document": "passage: "}
    published = read_published("systems.theirs", str(folder), prompts=Prompts(**before))
    ours = score_published(published, pairs_of(published), *ROWS)
    plain = their_products(folder)
    change(folder / "config_sentence_transformers.json", prompts=before)
    np.testing.assert_allclose(ours, their_products(folder), atol=1e-5, rtol=0)
    assert np.abs(ours - plain).max() > 1e-2


def test_a_prompt_leaves_room_for_texts(tmp_path):
    folder = save_bi_encoder(tmp_path, longest=20)
    read_published("systems.theirs", str(folder), prompts=Prompts(query="a pear " * 2))
    with pytest.raises(
        StudyError, match=r"^systems\.theirs\.prompts\.document: 'a pear .* of the 20 tokens that are read"
    ):
        read_published("systems.theirs", str(folder), prompts=Prompts(document="a pear " * 20))


def test_a_rerankers_default_prompt_stands_before_queries(tmp_path):
    plain = save_encoder(tmp_path / "reranker", "bert", 16, reranker=True)
    named = {"prompts": {"task": "count the words: "}, "default_prompt_name": "task"}
    sentence_transformers.CrossEncoder(str(plain), device="cpu", **named).save_pretrained(str(tmp_path / "prompted"))
    published = read_published("systems.theirs", str(tmp_path / "prompted"), pair_tokens=49)  # an even number for texts
    texts = [(QUERIES[query], DOCUMENTS[document]) for query, document in zip(*ROWS, strict=True)]
    model = sentence_transformers.CrossEncoder(str(tmp_path / "prompted"), device="cpu", max_length=49)
    theirs = model.predict(texts, activation_fn=nn.Identity())
    np.testing.assert_allclose(score_published(published, pairs_of(published), *ROWS), theirs, atol=1e-5, rtol=0)


def test_the_first_layers_of_a_bi_encoder_are_a_rung_before_its_first_step(tmp_path):
    folder = save_bi_encoder(tmp_path)
    published = read_published("systems.theirs", str(folder), layers=2)
    ours = score_published(published, pairs_of(published), *ROWS)
    np.testing.assert_allclose(ours, their_products(folder, layers=2), atol=1e-5, rtol=0)
    assert np.abs(ours - their_products(folder)).max() > 1e-2


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta", "mpnet", "modernbert"])
def test_a_reranker_scores_as_sentence_transformers_does(tmp_path, architecture):
    folder = save_encoder(tmp_path / "reranker", architecture, 16, reranker=True)
    published = read_published("systems.theirs", str(folder), pair_tokens=48)
    pairs, texts = (
        pairs_of(published),
        [(QUERIES[query], DOCUMENTS[document]) for query, document in zip(*ROWS, strict=True)],
    )
    model = sentence_transformers.CrossEncoder(str(folder), device="cpu", max_length=48, num_labels=1)
    theirs = model.predict(texts, activation_fn=nn.Identity())
    np.testing.assert_allclose(score_published(published, pairs, *ROWS), theirs, atol=1e-5, rtol=0)
    assert theirs.std() > 1e-3
    assert published.family == "cross_encoder"


@torch.inference_mode()
def test_a_decoder_says_yes_or_no_after_its_prompt(tmp_path):
    folder = save_decoder(tmp_path / "decoder", "qwen3", 16)
    with pytest.raises(StudyError, match=r"^systems\.theirs = .* has no head for scores: set systems\.theirs\.decoder"):
        read_published("systems.theirs", str(folder))
    published = read_published("systems.theirs", str(folder), decoder=DecoderSettings(score="yes_no"))
    model, plain = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    (yes,), (no,) = (plain.encode(word, add_special_tokens=False) for word in ("yes", "no"))
    ours, whole = score_published(published, pairs_of(published), *ROWS), 0
    for query, document, score in zip(*ROWS, ours, strict=True):
        ids = published.tokenizer.encode(QUERIES[query], DOCUMENTS[document]).ids
        if len(ids) <= published.pair_tokens:
            logits = model(torch.tensor([ids])).logits[0, -1]
            assert score == pytest.approx(float(logits[yes] - logits[no]), abs=1e-4)
            whole += 1
    assert whole > len(ours) / 2
    assert ours.std() > 1e-3
    with pytest.raises(StudyError, match=r"pair_tokens = 8: its prompt and a word of both texts take \d+: raise it"):
        read_published("systems.theirs", str(folder), 8, DecoderSettings(template="qwen3-reranker"))


@pytest.mark.parametrize("way", ["head", "words", "export"])
def test_a_decoder_scores_as_sentence_transformers_does(tmp_path, way):
    folder = save_decoder(tmp_path / "decoder", "qwen3", 16, head=way == "head")
    settings = DecoderSettings(template="qwen3-reranker")
    published = read_published("systems.theirs", str(folder), 160, None if way == "head" else settings)
    pairs, rows = pairs_of(published), tuple(np.delete(row, 5) for row in ROWS)  # without the pair of empty texts
    ours = score_published(published, pairs, *rows)
    if way != "head":
        tokens = tmp_path / "tokens"
        tokens.mkdir()
        StudyTokenizer(published.tokenizer, published.special, 160, segments=False).save(tokens)
        save_checkpoint(published.model, tmp_path / "export", tokens)
        folder = tmp_path / "export"
    if way == "export":
        again = read_published("systems.theirs", str(folder))
        np.testing.assert_allclose(score_published(again, pairs_of(again), *rows), ours, atol=1e-6, rtol=0)
    texts = [(QUERIES[query], DOCUMENTS[document]) for query, document in zip(*rows, strict=True)]
    model = sentence_transformers.CrossEncoder(str(folder), device="cpu", max_length=160)
    theirs = model.predict(texts, activation_fn=nn.Identity(), batch_size=1)
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)
    assert theirs.std() > 1e-3
    assert published.family == "cross_encoder"


def test_settings_of_others_are_refused_of_a_reranker(tmp_path):
    encoder = save_encoder(tmp_path / "encoder", "bert", 16, reranker=True)
    with pytest.raises(StudyError, match=r"^systems\.theirs\.prompts: .* is no bi-encoder: remove it\.$"):
        read_published("systems.theirs", str(encoder), prompts=Prompts(query="query: "))
    with pytest.raises(StudyError, match=r"^systems\.theirs\.decoder: .* is a bert model, no decoder: remove it\.$"):
        read_published("systems.theirs", str(encoder), decoder=DecoderSettings())


def test_a_model_reads_as_much_as_it_can_and_says_what_it_cuts(tmp_path):
    folder = save_encoder(tmp_path / "reranker", "xlm-roberta", 16, reranker=True)
    published = read_published("systems.theirs", str(folder))
    assert published.pair_tokens == 104 - 2  # RoBERTa's positions begin behind its padding's
    longest = [len(published.tokenizer.encode(QUERIES[q], DOCUMENTS[d]).ids) > 102 for q, d in zip(*ROWS, strict=True)]
    assert 0 < sum(longest) < len(longest)
    assert cut_share(published, pairs_of(published), *ROWS) == sum(longest) / len(longest)
    with pytest.raises(StudyError, match=r"^systems\.theirs\.pair_tokens = 103: .* reads 102 tokens at most: lower it"):
        read_published("systems.theirs", str(folder), pair_tokens=103)


def change(file, **fields):
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_what_is_not_finished_or_not_known_is_refused_in_a_sentence(tmp_path):
    cases = {
        "has neither a head for scores nor, in modules.json, a pooling": save_encoder(tmp_path / "bare", "bert", 16),
        "its head has 2 labels, and a reranker gives one score": save_encoder(
            tmp_path / "two", "bert", 16, reranker=True, num_labels=2
        ),
        "its configuration cannot be read": tmp_path / "nothing",
        "pools by max: known here are the mean": save_bi_encoder(tmp_path / "max", pooling="max"),
        "pools by mean and max: known here": save_bi_encoder(tmp_path / "both", pooling=("mean", "max"), layers=()),
        "compares by euclidean": save_bi_encoder(tmp_path / "apart", similarity_fn_name="euclidean"),
    }
    cases["its tokenizer has no pad token"] = without_pad = save_bi_encoder(tmp_path / "unpadded")
    change(without_pad / "tokenizer_config.json", pad_token=None)
    cases["its layer 2_Dense adds its input"] = added = save_bi_encoder(tmp_path / "added")
    change(added / "2_Dense" / "config.json", use_residual=True)
    cases["its modules.json lists Transformer, Pooling, LSTM"] = other = save_bi_encoder(tmp_path / "other")
    modules = json.loads((other / "modules.json").read_text())[:3]
    modules[2]["type"] = "sentence_transformers.models.LSTM"
    (other / "modules.json").write_text(json.dumps(modules))
    cases["its layer 2_Dense cannot be read"] = lacking = save_bi_encoder(tmp_path / "lacking")
    (lacking / "2_Dense" / "model.safetensors").unlink()
    cases["its weights cannot be read"] = empty = save_bi_encoder(tmp_path / "empty")
    (empty / "model.safetensors").unlink()
    cases["pools by nothing that is said"] = unsaid = save_bi_encoder(tmp_path / "unsaid")
    (unsaid / "1_Pooling" / "config.json").unlink()
    cases["keeps 8 of an embedding's numbers"] = save_bi_encoder(tmp_path / "first", truncate_dim=8)
    cases["its tokenizer cuts texts on the left"] = left = save_bi_encoder(tmp_path / "left")
    change(left / "tokenizer_config.json", truncation_side="left")
    cases[r"its tokenizer has \d+ tokens and its model \d+"] = more = save_encoder(tmp_path / "more", "bert", 16, True)
    tokenizer = AutoTokenizer.from_pretrained(more)
    tokenizer.add_tokens(["plum", "pears", "apples", "counts"])
    tokenizer.save_pretrained(more)
    cases["its configuration needs code of its own"] = foreign = save_encoder(tmp_path / "foreign", "bert", 16, True)
    change(foreign / "config.json", model_type="their_own", auto_map={"AutoConfig": "theirs.Config"})
    cases["its tokenizer has a chat template"] = chat = save_decoder(tmp_path / "chat", "qwen3", 16, head=True)
    change(chat / "tokenizer_config.json", chat_template="{{ messages[0].content }}")
    cases[r"is a bi-encoder on a decoder \(qwen3\)"] = tmp_path / "last"
    states = Transformer(str(save_decoder(tmp_path / "states", "qwen3", 16)))
    sentence_transformers.SentenceTransformer(modules=[states, Pooling(16, "lasttoken")]).save(str(tmp_path / "last"))
    for sentence, folder in cases.items():
        with pytest.raises(StudyError, match=sentence) as caught:
            read_published("systems.theirs", str(folder))
        assert str(caught.value).startswith("systems.theirs = "), sentence
        assert "\n" not in str(caught.value)


def test_a_models_file_that_is_no_json_is_named(tmp_path):
    folder = save_bi_encoder(tmp_path)
    (folder / "modules.json").write_text("[{")
    with pytest.raises(StudyError, match=r"model': its modules\.json cannot be read \(.*\): fetch the model again\.$"):
        read_published("systems.theirs", str(folder))


def test_real_weights_embed_as_sentence_transformers_has_them(minilm):
    published = read_published("systems.minilm", str(minilm))
    assert (published.pair_tokens, published.model.dimensions) == (256, 384)
    ours = score_published(published, pairs_of(published), *ROWS)
    np.testing.assert_allclose(ours, their_products(minilm), atol=1e-5, rtol=0)
