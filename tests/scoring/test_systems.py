import bm25s
import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel

from rankscale_utils.collections.singles import Singles
from rankscale_utils.collections.tokens import Pairs, StudyTokenizer, Texts, train_tokenizer
from rankscale_utils.evaluation.metrics import open_test
from rankscale_utils.evaluation.speed import load_models, system_scores
from rankscale_utils.models.bi_encoder import BiEncoder, bi_encoder_flops, initialise_bi_encoder
from rankscale_utils.models.ed2lm import Ed2lmError, Setting, build_ed2lm
from rankscale_utils.models.ed2lm_counts import Work, decoder_flops, full_flops
from rankscale_utils.scoring.pairs import score_pairs
from rankscale_utils.scoring.systems import (
    bi_encoder_systems,
    bm25_system,
    cross_encoder_systems,
    ed2lm_in_full,
    ed2lm_systems,
)
from rankscale_utils.study.evaluation import FirstStage
from rankscale_utils.study.objectives import SCORES
from tests.models.ed2lm_models import LONGEST, WORDS, config

CPU = torch.device("cpu")
DOCUMENTS, QUERIES = [9, 40, 1, 10, 23, 9, 2, 31], [5, 1, 7]
HELD = np.array([0, 1, 3, 4, 6, 7])
WANTED = np.array([4, 0, 7, 6, 1])  # some are cut, in no order


def texts(lengths, seed):
    ids = np.random.default_rng(seed).integers(5, 30, sum(lengths), dtype=np.int32)
    return Texts(ids, np.concatenate([[0], np.cumsum(lengths)]))


@pytest.fixture(scope="module")
def tokenizer():
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return StudyTokenizer(train_tokenizer(["count the apples and the pears"], WORDS), special, 30)


@pytest.fixture(scope="module")
def pairs(tokenizer):
    return Pairs(texts(QUERIES, 0), texts(DOCUMENTS, 1), tokenizer)


def singles(pairs, around, tokens=LONGEST):
    return [Singles(some, pairs.tokenizer, tokens, around) for some in (pairs.queries, pairs.documents)]


def ed2lm_model(seed=0):
    torch.manual_seed(seed)
    return build_ed2lm(config("v1.1"), Setting(3, 4, LONGEST, (1, 4))).eval()


@pytest.fixture(scope="module")
def stored(pairs, tmp_path_factory):
    model, folder = ed2lm_model(), tmp_path_factory.mktemp("stores")
    queries, documents = singles(pairs, "none")[0], singles(pairs, "end")[1]
    made = ed2lm_systems(model, queries, documents, HELD, folder, "r", "both", precision="float32")
    return {system.name: system for system in made}


@torch.no_grad()
def read_in_full(pairs, query_row, pooling=1, kind="both"):
    """Return what the model says of one pair at a time, whose ids are put together by hand."""
    model, scores = ed2lm_model(), []
    query = pairs.queries.ids[slice(*pairs.queries.starts[[query_row, query_row + 1]])].tolist()
    for row in WANTED:
        document = pairs.documents.ids[slice(*pairs.documents.starts[[row, row + 1]])].tolist()
        ids = torch.tensor([[*document[: LONGEST - 1], 3]])
        said = torch.tensor([query])
        scores.append(model(ids, torch.ones_like(ids), said, torch.ones_like(said), pooling).scores(kind).item())
    return scores


@pytest.mark.parametrize("query_row", range(len(QUERIES)))
def test_every_way_of_ed2lm_scores_as_in_training(pairs, stored, query_row):
    assert len(stored) == 5
    assert [name for name, system in stored.items() if not system.as_evaluated] == ["ED2LM, states pooled by 4"]
    for name, system in stored.items():
        expected = read_in_full(pairs, query_row, pooling=4 if "pooled by 4" in name else 1)
        scores = system.score(query_row, WANTED)
        assert scores.dtype == np.float32
        assert scores == pytest.approx(expected, abs=1e-5, rel=1e-6), name
        assert np.ptp(scores) > 0.01


@pytest.mark.parametrize("kind", SCORES)
def test_ed2lm_in_full_gives_each_kind_of_score(pairs, kind):
    system = ed2lm_in_full(ed2lm_model(), singles(pairs, "none")[0], singles(pairs, "end")[1], kind=kind)
    assert system.score(0, WANTED) == pytest.approx(read_in_full(pairs, 0, kind=kind), abs=1e-5, rel=1e-6)


def test_stores_differ_in_size_and_what_is_stored_costs_no_operations(stored):
    states, full = stored["ED2LM, states"], stored["ED2LM in full"]
    keys_values, pooled = stored["ED2LM, keys and values"], stored["ED2LM, states pooled by 4"]
    assert full.bytes_per_document == 0 < pooled.bytes_per_document < states.bytes_per_document
    assert states.bytes_per_document < keys_values.bytes_per_document
    costs = [stored[name].flops_per_pair(6, 20, 100) for name in ("ED2LM, states projected", "ED2LM, keys and values")]
    assert costs[1] < costs[0] < full.flops_per_pair(6, 20, 100)
    assert states.flops_per_pair(6, 20, 1) > states.flops_per_pair(6, 20, 100)  # documents share the query's part
    assert states.flops_per_pair(6, 20, 9) == decoder_flops(config("v1.1"), Work(6, 21, 9, kind="both"), "absorbed")
    assert pooled.flops_per_pair(6, 20, 9) == decoder_flops(config("v1.1"), Work(6, 21, 9, 4, "both"), "absorbed")
    assert full.flops_per_pair(6, 20, 9) == full_flops(config("v1.1"), Work(6, 21))
    assert full.flops_per_pair(6, 23, 1) == full.flops_per_pair(6, 500, 1)  # a document is cut
    assert {system.params_non_embedding for system in stored.values()} == {full.params_non_embedding}


def test_documents_that_are_not_stored_are_refused(pairs, stored, tmp_path):
    with pytest.raises(ValueError, match="not in the store"):
        stored["ED2LM, states"].score(0, np.array([0, 2]))
    with pytest.raises(ValueError, match="not in the store"):
        stored["ED2LM, keys and values"].score(0, np.array([9]))
    longer = singles(pairs, "end", LONGEST + 1)[1]
    with pytest.raises(Ed2lmError, match="cut it first"):
        ed2lm_systems(ed2lm_model(), singles(pairs, "none")[0], longer, HELD, tmp_path)


def test_a_bi_encoder_multiplies_the_embeddings_that_the_model_gives(pairs):
    vocabulary = pairs.tokenizer.tokenizer.get_vocab_size()
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    bert = AutoConfig.for_model("bert", vocab_size=vocabulary, max_position_embeddings=LONGEST, **shape)
    torch.manual_seed(0)
    model = BiEncoder(AutoModel.from_config(bert, add_pooling_layer=False), dimensions=12).eval()
    initialise_bi_encoder(model, torch.full((vocabulary,), 1e-3), seed=0)
    queries, documents = singles(pairs, "both")
    system = bi_encoder_systems(model, queries, documents, HELD)
    with torch.no_grad():
        query = model(*queries.batch(np.array([2])))[0]
        expected = [float(model(*documents.batch(np.array([row])))[0] @ query) for row in WANTED]
    assert system.score(2, WANTED) == pytest.approx(expected, abs=1e-5)
    assert np.ptp(expected) > 0.01
    assert system.bytes_per_document == 12 * 4
    assert system.flops_per_pair(5, 20, 10) == bi_encoder_flops(model).forward(np.array(5 + 2)) / 10 + 2 * 12
    with pytest.raises(ValueError, match="not in the store"):
        system.score(0, np.array([2]))


def test_a_cross_encoder_scores_as_in_evaluation(trained, collection):
    pairs, test = collection.pairs(), open_test(trained, collection)
    model = load_models(trained, "listwise", collection, CPU)["w8"]
    system = cross_encoder_systems(model, pairs, "w8")
    rows = [test.candidates[column].to_numpy() for column in ("query_row", "document_row")]
    expected = score_pairs(model, pairs, *rows)
    np.testing.assert_allclose(system_scores(system, test), expected, atol=1e-5)
    assert np.ptp(expected) > 0.01
    assert system.flops_per_pair(5, 10_000, 1) == system.flops_per_pair(5, 20_000, 9)
    assert system.bytes_per_document == 0


def test_bm25_gives_the_scores_of_the_first_stage(collection):
    documents, queries = collection.documents()["text"], [*collection.queries()["text"][:5], "zzzzqq", ""]
    system = bm25_system(documents, queries, FirstStage())
    index = bm25s.BM25(method="lucene", k1=FirstStage().k1, b=FirstStage().b)
    index.index(bm25s.tokenize(documents.tolist(), stopwords="en", show_progress=False), show_progress=False)
    rows = np.array([9, 3, 200, 0])
    for row, query in enumerate(queries[:5]):
        words = bm25s.tokenize([query], stopwords="en", return_ids=False, show_progress=False)[0]
        np.testing.assert_array_equal(system.score(row, rows), index.get_scores(words)[rows])
    assert system.score(0, np.arange(len(documents))).max() > 1
    assert not system.score(5, rows).any()  # a query of no known word
    assert not system.score(6, rows).any()
    assert system.bytes_per_document > 0
