"""A checkpoint scores in its users' tools as it was measured, whatever the lengths of the texts it is given."""

import numpy as np
import pytest
import torch
from torch import nn

from rankscale_utils.collections.singles import singles
from rankscale_utils.collections.tokens import Pairs, Texts, study_tokenizer
from rankscale_utils.models.build import build_model
from rankscale_utils.models.checkpoint import save_checkpoint
from rankscale_utils.scoring.embeddings import embed
from rankscale_utils.scoring.pairs import score_pairs
from rankscale_utils.scoring.rerank import rerank
from tests.models.tiny import save_pretrained

QUERIES = ["count the apples", "", "naïve pear " * 9, "plum and apple " * 80, "pears [SEP] and <pad> [PAD] plums"]
DOCUMENTS = [
    "a document of some length, with commas",
    "",
    "pear apple " * 13,
    "plum, the words " * 60,
    "apples [SEP] ☃",
]
ROWS = np.repeat(np.arange(5), 5), np.tile(np.arange(5), 5)
PAIRS = [(QUERIES[query], DOCUMENTS[document]) for query, document in zip(*ROWS, strict=True)]


@pytest.fixture
def sentence_transformers(monkeypatch, tmp_path):
    """Return the library, without a network and with a folder of its own for the code that checkpoints carry."""
    library = pytest.importorskip("sentence_transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for module in ("transformers.dynamic_module_utils.HF_MODULES_CACHE", "transformers.utils.hub.HF_MODULES_CACHE"):
        monkeypatch.setattr(module, str(tmp_path / "modules"), raising=False)
    return library


@pytest.fixture
def export(new_study, tmp_path):
    """Return what saves a model of a study, and gives it with its pairs, as measuring has them, and its folder."""

    def exported(start, architecture, query_tokens, objective="listwise"):
        fields = {"text": {"vocabulary": 512, "query_tokens": query_tokens, "pair_tokens": 48}}
        fields |= {"objectives": {objective: {"learning_rate": {"base": 1e-3}}}, "architecture": architecture}
        if start != "scratch":
            widths = (8, 12, 16, 24)
            for width in widths:
                save_pretrained(tmp_path / "params" / f"w{width}", architecture, width)
            ladder = {f"w{width}": f"w{width}" for width in widths}
            if start != "pretrained":
                ladder["w8"] = {"pretrained": "w8", "reads": start}
            fields |= {"ladder": ladder, "architecture": None, "held_out": {"rungs": ["w24"]}}
        study, folder = new_study(**fields), tmp_path / "tokens"
        folder.mkdir()
        tokenizer = study_tokenizer(study, [*QUERIES, *DOCUMENTS])
        tokenizer.save(folder)
        Texts.write(folder, "queries", tokenizer, QUERIES, study.text.longest_query)
        Texts.write(folder, "documents", tokenizer, DOCUMENTS, study.text.pair_tokens)
        pairs = Pairs(Texts.load(folder, "queries"), Texts.load(folder, "documents"), tokenizer)
        model = build_model(study, study.run(f"{objective}-w8-s0"), tokenizer.tokenizer.get_vocab_size()).eval()
        if objective != "listwise" or start in ("scratch", "mean", "query"):
            nn.init.normal_((model.head if objective == "listwise" else model.projection).weight)
        save_checkpoint(model, tmp_path / "checkpoint", folder)
        return study, model, pairs, tmp_path / "checkpoint"

    return exported


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
@pytest.mark.parametrize("query_tokens", [12, None])
@pytest.mark.parametrize("start", ["scratch", "pretrained", "mean", "query"])
def test_a_cross_encoder_scores_texts_of_any_length_alike(
    sentence_transformers, export, start, query_tokens, architecture
):
    _, model, pairs, path = export(start, architecture, query_tokens)
    ours = score_pairs(model, pairs, *ROWS)
    needs_code = start in ("scratch", "query") or query_tokens is not None
    assert ("trust_remote_code=True" in (path / "README.md").read_text()) == needs_code
    theirs = sentence_transformers.CrossEncoder(str(path), device="cpu", trust_remote_code=needs_code)
    assert theirs.max_seq_length == pairs.lengths(*ROWS).max() == (48 if query_tokens else 47)
    np.testing.assert_allclose(theirs.predict(PAIRS, batch_size=7), ours, atol=1e-5, rtol=0)
    assert ours.std() > 0.01
    own = [rerank(path, query, [document or " ☃"])["score"][0] for query, document in PAIRS if query and document]
    given = [query != "" and document != "" for query, document in PAIRS]
    np.testing.assert_allclose(own, ours[given], atol=1e-5, rtol=0)
    if needs_code:
        with pytest.raises(ValueError, match="trust_remote_code"):
            sentence_transformers.CrossEncoder(str(path), device="cpu")


@pytest.mark.parametrize("loss", ["BinaryCrossEntropyLoss", "ListNetLoss"])
@pytest.mark.parametrize("query_tokens", [12, None])
def test_a_cross_encoder_goes_on_learning_in_sentence_transformers_trainer(
    sentence_transformers, export, tmp_path, query_tokens, loss
):
    datasets = pytest.importorskip("datasets", reason="sentence-transformers' trainer needs datasets")
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments, losses

    *_, path = export("scratch", "bert", query_tokens)
    model = sentence_transformers.CrossEncoder(str(path), device="cpu", trust_remote_code=True)
    before, queries, documents = model.predict(PAIRS), *map(list, zip(*PAIRS, strict=True))
    rows = {"query": queries, "document": documents, "label": [float(place % 2) for place in range(25)]}
    if loss == "ListNetLoss":
        rows = {"query": QUERIES, "docs": [DOCUMENTS] * 5, "labels": [[1.0, 0.0, 0.0, 0.0, 0.0]] * 5}
    often = {name: {f"{name}_strategy": "steps", f"{name}_steps": 1} for name in ("save", "eval")}
    settings = {"use_cpu": True, "learning_rate": 1e-2, "lr_scheduler_type": "constant", "max_steps": 2}
    settings |= {"report_to": "none", "disable_tqdm": True}
    settings |= often["save"] | often["eval"] | {"load_best_model_at_end": True, "output_dir": str(tmp_path / "out")}
    data = datasets.Dataset.from_dict(rows)

    def trained(changes, of=model, start=None):
        arguments = CrossEncoderTrainingArguments(**settings | changes)
        CrossEncoderTrainer(of, arguments, data, data, loss=getattr(losses, loss)(of)).train(start)
        return of.predict(PAIRS)

    after = trained({})
    assert np.isfinite(after).all()
    assert np.abs(after - before).max() > 1e-3
    model.save_pretrained(str(tmp_path / "further"))
    again = sentence_transformers.CrossEncoder(str(tmp_path / "further"), device="cpu", trust_remote_code=True)
    np.testing.assert_allclose(again.predict(PAIRS), after, atol=1e-5, rtol=0)
    last = {"max_steps": 3, "load_best_model_at_end": False}
    resumed = trained(last, again, str(tmp_path / "out" / "checkpoint-2"))
    assert np.abs(resumed - after).max() > 1e-4


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
@pytest.mark.parametrize("query_tokens", [12, None])
@pytest.mark.parametrize("start", ["scratch", "pretrained"])
def test_a_bi_encoder_embeds_texts_of_any_length_alike(
    sentence_transformers, export, start, query_tokens, architecture
):
    study, model, pairs, path = export(start, architecture, query_tokens, "contrastive")
    theirs = sentence_transformers.SentenceTransformer(str(path), device="cpu")
    of_queries, of_documents = singles(pairs, study.text)
    queries, documents = theirs.encode_query(QUERIES), theirs.encode_document(DOCUMENTS)
    with torch.inference_mode():
        np.testing.assert_allclose(model(*of_queries.batch(np.arange(5))), queries, atol=1e-5, rtol=0)
        np.testing.assert_allclose(model(*of_documents.batch(np.arange(5))), documents, atol=1e-5, rtol=0)
    products = embed(model, of_queries, np.arange(5), of_queries=True) @ embed(model, of_documents, np.arange(5)).T
    np.testing.assert_allclose(products, theirs.similarity(queries, documents), atol=1e-5 * np.abs(products).max())
    assert documents.std() > 0.01
