"""Ladders of bi-encoders that exist: their own pooling, layers and normalisation, whole or by their first layers."""

import numpy as np
import pytest
import torch

from rankscale_utils.collections import open_collection
from rankscale_utils.collections.singles import singles
from rankscale_utils.errors import StudyError
from rankscale_utils.evaluation.contract import contract
from rankscale_utils.evaluation.evaluate import evaluate_run
from rankscale_utils.models.build import build_model, count_rung
from rankscale_utils.models.checkpoint import model_of_folder, save_checkpoint
from rankscale_utils.models.checks import check_pretrained, start_of
from rankscale_utils.models.counts import parameters
from rankscale_utils.models.prompts import prompts_of_study
from rankscale_utils.models.whole_rungs import whole_rungs
from rankscale_utils.scoring.embeddings import embed
from rankscale_utils.scoring.rerank import rerank
from rankscale_utils.study.forecasting import HeldOut
from rankscale_utils.study.ladder import BiEncoderSettings, Prompts
from rankscale_utils.training.run import train
from tests.conftest import TINY
from tests.models.test_architectures import tokenised
from tests.models.test_exports import DOCUMENTS, QUERIES, sentence_transformers
from tests.scoring.test_published import save_bi_encoder

__all__ = ["sentence_transformers"]  # a fixture
CPU = torch.device("cpu")


@pytest.fixture
def by_depth(new_study):
    """Return what makes a study of a folder's first layers as bi-encoders."""

    def made(folder, depths=(1, 2, 3), temperature=0.05, **fields):
        rungs = {f"l{layers}": {"pretrained": str(folder), "layers": layers} for layers in depths}
        rungs |= {"whole": str(folder)}
        return new_study(
            architecture=None,
            ladder=rungs,
            held_out={"rungs": ["whole"]},
            objectives={"contrastive": {"temperature": temperature, "learning_rate": {"base": 1e-3}, "in_batch": True}},
            training=TINY["training"] | {"exposures": [48, 96]},
            text={"query_tokens": None, "pair_tokens": 40},
            systems={"before": {"pretrained": str(folder), "layers": depths[0]}},
            evaluation={"queries": 10, "depth": 10, "negatives": 50},
            **fields,
        )

    return made


def products(library, folder, layers, longest):
    """Return what sentence-transformers makes of every pair, its encoder cut by hand to its first layers."""
    model = library.SentenceTransformer(str(folder), device="cpu", similarity_fn_name="dot")
    model.max_seq_length = longest
    encoder = model[0].auto_model
    encoder.encoder.layer = encoder.encoder.layer[:layers]
    return (model.encode_query(QUERIES) @ model.encode_document(DOCUMENTS).T).ravel()


def at_its_start(study, rung, tmp_path):
    """Return a rung's model before its first step, what it makes of every pair, and the most tokens that it reads."""
    tokenizer, pairs = tokenised(study, tmp_path / rung)
    model = build_model(study, study.run(f"contrastive-{rung}-s0"), tokenizer.tokenizer.get_vocab_size()).eval()
    queries, documents = singles(pairs, study.text)
    scores = (embed(model, queries, np.arange(5)) @ embed(model, documents, np.arange(5)).T).ravel()
    return model, scores, documents.tokens


@pytest.mark.parametrize("layers", [("normalize",), ("dense", "normalize"), ("dense",)])
def test_a_rung_starts_as_the_bi_encoder_that_it_is(by_depth, tmp_path, sentence_transformers, layers):
    cosine = {} if "normalize" in layers else {"similarity_fn_name": "dot"}
    folder = save_bi_encoder(tmp_path, "bert", "cls" if "dense" in layers else "mean", layers, **cosine)
    study = by_depth(folder)
    check_pretrained(study)
    for rung, kept in (("l2", 2), ("whole", 3)):
        model, ours, longest = at_its_start(study, rung, tmp_path)
        np.testing.assert_allclose(products(sentence_transformers, folder, kept, longest), ours, atol=1e-5, rtol=0)
        assert ours.std() > 1e-3
        assert parameters(model) == count_rung(study, "bi_encoder", rung, 300)
    path = tmp_path / "exposure-000000096"
    save_checkpoint(model, path, tmp_path / "whole")
    np.testing.assert_allclose(products(sentence_transformers, path, 3, longest), ours, atol=1e-5, rtol=0)
    again = model_of_folder(path)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert again.pooling == model.pooling


def test_prompts_stand_before_what_is_trained_on_and_in_checkpoints(by_depth, tmp_path, sentence_transformers):
    prompts = {"query": "count the words: ", "document": "a document: "}
    folder = save_bi_encoder(tmp_path, "roberta", layers=("normalize",), prompts=prompts)
    study = by_depth(folder)
    check_pretrained(study)
    model, ours, longest = at_its_start(study, "whole", tmp_path)
    np.testing.assert_allclose(products(sentence_transformers, folder, 3, longest), ours, atol=1e-5, rtol=0)
    save_checkpoint(model, tmp_path / "checkpoint", tmp_path / "whole")
    exported = sentence_transformers.SentenceTransformer(str(tmp_path / "checkpoint"), device="cpu")
    again = exported.encode_query(QUERIES) @ exported.encode_document(DOCUMENTS).T
    np.testing.assert_allclose(again.ravel(), ours, atol=1e-5, rtol=0)
    ranked = rerank(tmp_path / "checkpoint", QUERIES[0], DOCUMENTS[2:]).set_index("document_id")["score"]
    np.testing.assert_allclose(ranked.loc[[0, 1, 2]], ours[2:5], atol=1e-5, rtol=0)
    assert start_of(study, "bi_encoder", "l1").endswith("; the first 1 layers; prompts stand before texts")
    collection = open_collection(study)
    words = [
        collection.tokenizer().decode(texts.ids[:4])
        for texts in (collection.pairs().queries, collection.pairs().documents)
    ]
    assert words == [
        collection.tokenizer().decode(collection.tokenizer().encode(prompt, add_special_tokens=False).ids[:4])
        for prompt in prompts.values()
    ]


def test_rungs_read_the_same_prompts_and_no_other_family_does(by_depth, tmp_path):
    plain, prompted = (
        save_bi_encoder(tmp_path / "plain"),
        save_bi_encoder(tmp_path / "prompted", prompts={"query": "q: "}),
    )
    study = by_depth(plain)
    study.ladder["l1"] = study.ladder["l1"].model_copy(update={"pretrained": str(prompted)})
    with pytest.raises(StudyError, match=r"^ladder: .* different prompts .*, \('', ''\) and \('q: ', ''\), and all"):
        check_pretrained(study)
    given = study.model_copy(update={"bi_encoder": BiEncoderSettings(prompts=Prompts(query="query: "))})
    assert prompts_of_study(given) == ("query: ", "")
    long = BiEncoderSettings(prompts=Prompts(query="count the apples " * 20))
    with pytest.raises(StudyError, match=r"^bi_encoder\.prompts\.query: .* of the 40 tokens that are read"):
        check_pretrained(study.model_copy(update={"bi_encoder": long}))


def test_the_first_layers_train_and_are_measured_at_their_temperature(by_depth, tmp_path):
    study = by_depth(save_bi_encoder(tmp_path, "bert", layers=("normalize",)))
    collection, run = open_collection(study), study.run("contrastive-l2-s0")
    ledger = train(study, run, collection, CPU)
    assert ledger["start"] == "a bi-encoder's, its pooling and layers included; the first 2 layers"
    measured = evaluate_run(study, run, collection, CPU)
    assert measured["excluded"].eq("").all()
    assert "divided by 0.05" in contract(study, collection, "docstrings/test")["CE50"]
    entropy = measured[(measured["metric"] == "CE50") & (measured["exposure"] == 96)]["value"].item()
    assert abs(entropy - np.log(51)) > 0.05  # raw products of unit embeddings would hardly leave it


def test_embeddings_of_length_one_are_not_trained_on_their_raw_products(by_depth, tmp_path):
    study = by_depth(save_bi_encoder(tmp_path, "bert", layers=("normalize",)), temperature=None)
    with pytest.raises(StudyError, match=r"^objectives\.contrastive\.temperature: ladder\.l1 = .* of length one, .*05"):
        check_pretrained(study)


def test_dimensions_that_are_asked_for_make_a_new_projection(by_depth, tmp_path):
    study = by_depth(save_bi_encoder(tmp_path, "bert"), temperature=None, bi_encoder={"dimensions": 12})
    check_pretrained(study)
    model, *_ = at_its_start(study, "l2", tmp_path)
    assert model.projection.weight.shape == (12, 16)


def test_real_weights_start_as_the_retriever_that_they_are(by_depth, tmp_path, sentence_transformers, minilm):
    study = by_depth(minilm, (1, 3, 6))
    for rung, layers in (("l1", 1), ("l3", 3), ("l6", 6)):
        _, ours, longest = at_its_start(study, rung, tmp_path)
        np.testing.assert_allclose(products(sentence_transformers, minilm, layers, longest), ours, atol=1e-5, rtol=0)
        assert ours.std() > 0.05


def test_a_rung_that_is_all_of_a_finished_model_is_named_where_others_are_cut_from_it(by_depth, tmp_path):
    folder = save_bi_encoder(tmp_path, layers=("normalize",))  # of three layers
    told = by_depth(folder)
    assert whole_rungs(told) == ["whole"]
    assert whole_rungs(told.model_copy(update={"held_out": HeldOut(rungs=["l3"])})) == ["l3"]  # by its number of layers
    assert whole_rungs(told.model_copy(update={"held_out": HeldOut(rungs=["l2"])})) == []
    assert whole_rungs(by_depth(tmp_path / "encoder")) == []  # whose pooling was never trained
