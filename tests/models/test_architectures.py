"""Every architecture: read from a folder, trained, scored, saved, and read again by its users' own tools.

The table of docs/models.md says what holds; these tests hold it to that.
"""

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from rankscale_utils.collections import open_collection
from rankscale_utils.collections.singles import singles
from rankscale_utils.collections.tokens import Pairs, Texts, study_tokenizer
from rankscale_utils.errors import StudyError
from rankscale_utils.models.build import build_model, count_rung
from rankscale_utils.models.checkpoint import load_checkpoint, model_of_folder, save_checkpoint
from rankscale_utils.models.checks import check_pretrained
from rankscale_utils.models.counts import parameters
from rankscale_utils.models.flat_encoders import is_unpadded
from rankscale_utils.scoring.pairs import score_pairs
from rankscale_utils.study import paths
from rankscale_utils.training.run import train
from tests.conftest import TINY
from tests.models.documented import table
from tests.models.test_exports import DOCUMENTS, PAIRS, QUERIES, ROWS, sentence_transformers
from tests.models.tiny import ENCODERS, FEW_TEXTS, save_encoder

__all__ = ["sentence_transformers"]  # a fixture
CPU = torch.device("cpu")
FLAT = {"albert", "bert", "camembert", "distilbert", "electra", "eurobert", "modernbert", "roberta", "xlm-roberta"}
WIDTHS = (8, 12, 16, 24)


@pytest.fixture
def of(new_study, tmp_path):
    """Return what makes a study of small pretrained rungs of an architecture."""

    def made(architecture, objective="listwise", query_tokens=None, rungs=None, **settings):
        for width in WIDTHS:
            save_encoder(tmp_path / "params" / f"w{width}", architecture, width, **settings)
        return new_study(
            architecture=None,
            docstrings=FEW_TEXTS,
            ladder=rungs or {f"w{width}": f"w{width}" for width in WIDTHS},
            held_out={"rungs": [list(rungs)[-1] if rungs else "w24"]},
            objectives={objective: {"seeds": [0], "learning_rate": {"base": 1e-3}}},
            training=TINY["training"] | {"exposures": [48, 96]},
            text={"query_tokens": query_tokens, "pair_tokens": 60},
        )

    return made


def tokenised(study, folder):
    """Return a study's tokenizer in a folder, and pairs of texts of all lengths as measuring has them."""
    folder.mkdir()
    tokenizer = study_tokenizer(study, [])
    tokenizer.save(folder)
    queries = Texts.encoded(tokenizer, [*tokenizer.queries(QUERIES)], study.text.longest_query)
    documents = Texts.encoded(tokenizer, [*tokenizer.documents(DOCUMENTS)], study.text.pair_tokens)
    return tokenizer, Pairs(queries, documents, tokenizer)


@torch.inference_mode()
def logits(folder, longest):
    """Return what transformers makes of the pairs, padded and cut by itself."""
    classifier = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    cut = {"truncation": "longest_first", "max_length": longest, "padding": True, "return_tensors": "pt"}
    return classifier(**tokenizer(*map(list, zip(*PAIRS, strict=True)), **cut)).logits[:, 0].numpy()


@pytest.mark.parametrize("architecture", ENCODERS)
def test_a_finished_reranker_scores_as_transformers_and_sentence_transformers_have_it(
    of, architecture, tmp_path, sentence_transformers, monkeypatch
):
    pooling = {"classifier_pooling": "mean"} if architecture in ("modernbert", "eurobert") else {}
    study = of(architecture, reranker=True, **pooling)
    check_pretrained(study)
    tokenizer, pairs = tokenised(study, tmp_path / "tokens")
    model = build_model(study, study.run("listwise-w16-s0"), tokenizer.tokenizer.get_vocab_size()).eval()
    assert is_unpadded(model.encoder) == (architecture in FLAT)
    assert model.reads == ("mean" if pooling else "cls")
    assert parameters(model) == count_rung(study, "cross_encoder", "w16", 300)
    ours = score_pairs(model, pairs, *ROWS)
    assert ours.std() > 0.01
    np.testing.assert_allclose(logits(study.pretrained["w16"], tokenizer.pair_tokens), ours, atol=1e-5, rtol=0)
    monkeypatch.setattr("rankscale_utils.scoring.packed.NARROWEST", 4)  # then narrow layers are packed too
    np.testing.assert_allclose(score_pairs(model, pairs, *ROWS), ours, atol=1e-5, rtol=0)
    monkeypatch.undo()

    path = tmp_path / "exposure-000000096"
    save_checkpoint(model, path, tmp_path / "tokens")
    np.testing.assert_allclose(logits(path, tokenizer.pair_tokens), ours, atol=1e-5, rtol=0)
    theirs = sentence_transformers.CrossEncoder(str(path), device="cpu")
    np.testing.assert_allclose(theirs.predict(PAIRS, batch_size=7), ours, atol=1e-5, rtol=0)
    np.testing.assert_allclose(score_pairs(model_of_folder(path), pairs, *ROWS), ours, atol=1e-6, rtol=0)


@pytest.mark.parametrize("architecture", ENCODERS)
@torch.inference_mode()
def test_a_bi_encoder_embeds_as_transformers_and_sentence_transformers_have_it(
    of, architecture, tmp_path, sentence_transformers
):
    study = of(architecture, "contrastive", query_tokens=12)
    check_pretrained(study)
    tokenizer, pairs = tokenised(study, tmp_path / "tokens")
    model = build_model(study, study.run("contrastive-w16-s0"), tokenizer.tokenizer.get_vocab_size()).eval()
    documents = singles(pairs, study.text)[1]
    ours = model.pooled(*documents.batch(np.arange(5)))
    own = AutoTokenizer.from_pretrained(study.pretrained["w16"])
    given = own(DOCUMENTS, truncation=True, max_length=documents.tokens, padding=True, return_tensors="pt")
    states = AutoModel.from_pretrained(study.pretrained["w16"]).eval()(**given).last_hidden_state
    mask = given["attention_mask"].unsqueeze(-1)
    torch.testing.assert_close((states * mask).sum(1) / mask.sum(1), ours, atol=1e-5, rtol=0)
    save_checkpoint(model, tmp_path / "exposure-000000096", tmp_path / "tokens")
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "exposure-000000096"), device="cpu")
    np.testing.assert_allclose(theirs.encode_document(DOCUMENTS), model.projection(ours), atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ENCODERS)
def test_it_trains_from_its_weights_and_a_new_head(of, architecture, tmp_path, sentence_transformers):
    study = of(architecture, query_tokens=12)
    run, collection = study.run("listwise-w16-s0"), open_collection(study)
    vocabulary = collection.tokenizer().get_vocab_size()
    start = build_model(study, run, vocabulary)
    kept = AutoModel.from_pretrained(study.pretrained["w16"]).state_dict()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in start.encoder.state_dict().items())
    ledger = train(study, run, collection, CPU)
    assert ledger["status"] == "complete"
    assert ledger["start"] == "pretrained, with a new head"
    assert ledger["batches"] == ("flat, without padding" if architecture in FLAT else "padded, of like length")
    assert 0 <= ledger["padding"] < (1e-9 if architecture in FLAT else 0.1)
    assert ledger["flops_counted"] == 1
    path = paths.checkpoint_file(study.run_folder(run), 96)
    trained = load_checkpoint(build_model(study, run, vocabulary), path).eval()
    moved = [not torch.equal(tensor, start.state_dict()[name]) for name, tensor in trained.state_dict().items()]
    assert np.mean(moved) > 0.9

    _, pairs = tokenised(study, tmp_path / "tokens")
    ours = score_pairs(trained, pairs, *ROWS)
    theirs = sentence_transformers.CrossEncoder(str(path), device="cpu", trust_remote_code=True)
    np.testing.assert_allclose(theirs.predict(PAIRS, batch_size=7), ours, atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ENCODERS)
@torch.inference_mode()
def test_a_ladder_by_depth_keeps_the_first_layers(of, architecture, tmp_path):
    rungs = {f"d{layers}": {"pretrained": "w16", "layers": layers} for layers in (1, 2)}
    rungs |= {"w16": "w16", "d3": {"pretrained": "w16", "layers": 3}}
    study = of(architecture, rungs=rungs)
    tokenizer, pairs = tokenised(study, tmp_path / "tokens")
    vocabulary = tokenizer.tokenizer.get_vocab_size()
    models = {name: build_model(study, study.run(f"listwise-{name}-s0"), vocabulary).eval() for name in rungs}
    whole = models["w16"].encoder.state_dict()
    for name, layers in (("d1", 1), ("d2", 2), ("d3", 3), ("w16", 3)):
        assert models[name].encoder.config.num_hidden_layers == layers
        assert all(torch.equal(tensor, whole[part]) for part, tensor in models[name].encoder.state_dict().items())
        assert parameters(models[name]) == count_rung(study, "cross_encoder", name, vocabulary)
    counts = [parameters(models[name]).non_embedding for name in ("d1", "d2", "d3")]
    assert counts == sorted(set(counts)) or architecture == "albert"  # whose layers share their weights
    assert counts[2] == parameters(models["w16"]).non_embedding
    save_checkpoint(models["d2"], tmp_path / "exposure-000000096", tmp_path / "tokens")
    again = model_of_folder(tmp_path / "exposure-000000096")
    assert again.encoder.config.num_hidden_layers == 2
    ours = score_pairs(models["d2"], pairs, *ROWS)
    np.testing.assert_array_equal(score_pairs(again, pairs, *ROWS), ours)
    np.testing.assert_allclose(logits(tmp_path / "exposure-000000096", tokenizer.pair_tokens), ours, atol=1e-5, rtol=0)
    with pytest.raises(StudyError, match=r"^ladder\.d1\.layers = 4: .*w16' has 3 layers: keep as many or fewer\.$"):
        check_pretrained(of(architecture, rungs=rungs | {"d1": {"pretrained": "w16", "layers": 4}}))


def test_the_table_of_the_documentation_says_what_these_tests_found():
    said = {name: [batches, *rest] for name, _, batches, *rest in table("architecture", "batches")[1:]}
    held = {f"`{name}`": ["flat" if name in FLAT else "padded", *["yes"] * 5] for name in ENCODERS}
    assert said == held
