"""A checkpoint's folder is all that reranking needs: its scores are those of evaluation, whatever its family."""

import numpy as np
import pytest
import torch

from rankscale_utils.collections import open_collection
from rankscale_utils.collections.singles import singles
from rankscale_utils.errors import StudyError
from rankscale_utils.evaluation.scorers import scorer
from rankscale_utils.models.build import build_model
from rankscale_utils.models.checkpoint import save_checkpoint
from rankscale_utils.scoring.rerank import rerank
from tests.conftest import TINY

RATE = {"learning_rate": {"base": 3.0e-3}}
OBJECTIVES = {"contrastive": RATE, "true_false": RATE, "margin": RATE | {"score": "both"}}


@pytest.fixture
def study(new_study):
    return new_study("families", objectives=TINY["objectives"] | OBJECTIVES, evaluation={"depth": 10, "queries": 20})


@pytest.fixture
def write(study, tmp_path):
    """Write a new model of an objective, its weights far enough from zero to tell documents apart."""

    def written(objective, seed=0, name="exposure-000000960"):
        collection = open_collection(study)
        run = study.run(f"{objective}-w8-s0")
        model = build_model(study, run, collection.tokenizer().get_vocab_size(), collection.token_shares).eval()
        torch.manual_seed(seed)
        if objective == "listwise":
            torch.nn.init.normal_(model.head.weight)
        save_checkpoint(model, tmp_path / name, collection.tokens)
        return model, tmp_path / name

    return written


def of_one_query(study, ranked):
    """Return the text of a query, those of its candidates by id, and the candidates' scores."""
    collection, candidates = open_collection(study), ranked.test.candidates
    mine = candidates["query_row"] == candidates["query_row"].iloc[-1]
    documents = collection.documents().iloc[candidates.loc[mine, "document_row"]]
    texts = dict(zip(documents["document_id"], documents["text"], strict=True))
    return collection.queries()["text"].iloc[candidates["query_row"].iloc[-1]], texts, ranked.scores[mine]


@pytest.mark.parametrize(
    ("objective", "kind"), [("listwise", "true_false"), ("true_false", "true_false"), ("margin", "both")]
)
def test_scores_are_those_of_evaluation(study, write, objective, kind):
    model, path = write(objective)
    (ranked,) = scorer(study, objective, open_collection(study)).rank(model)
    query, texts, scores = of_one_query(study, ranked)
    found = rerank(path, query, texts, score=kind)
    theirs = found.set_index("document_id")["score"].loc[list(texts)]
    assert scores.std() > 1e-4
    np.testing.assert_allclose(theirs, scores, rtol=1e-4, atol=1e-5)
    assert found["score"].is_monotonic_decreasing
    assert found["rank"].tolist() == list(range(1, len(texts) + 1))
    assert found["text"].tolist() == [texts[name] for name in found["document_id"]]


def test_a_bi_encoders_scores_are_products_of_its_embeddings(study, write):
    model, path = write("contrastive")
    collection = open_collection(study)
    query, texts = collection.queries()["text"].iloc[0], collection.documents()["text"].iloc[:5].tolist()
    queries, documents = singles(collection.pairs(), study.text)
    with torch.no_grad():
        expected = model(*documents.batch(np.arange(5))) @ model(*queries.batch(np.array([0])))[0]
    found = rerank(str(path), query, texts).sort_values("document_id")
    np.testing.assert_allclose(found["score"], expected, rtol=1e-4, atol=1e-4)


def test_equal_scores_keep_the_order_given(write):
    _, path = write("listwise")
    assert rerank(path, "a date", ["the same"] * 3)["document_id"].tolist() == [0, 1, 2]


def test_weights_written_anew_are_read_anew(study, write, tmp_path):
    _, path = write("listwise", seed=0)
    before = rerank(path, "parse a date", ["Return a date."])["score"]
    _, other = write("listwise", seed=1, name="other")
    (other / "2_Dense" / "model.safetensors").replace(path / "2_Dense" / "model.safetensors")
    (other / "model.safetensors").replace(path / "model.safetensors")
    assert rerank(path, "parse a date", ["Return a date."])["score"][0] != before[0]


def test_what_is_no_checkpoint_is_one_sentence(write, tmp_path):
    with pytest.raises(StudyError, match=r"none is no checkpoint that a study wrote.*it has no config\.json\): name a"):
        rerank(tmp_path / "none", "query", ["text"])
    _, path = write("listwise")
    (path / "modules.json").write_text("[]")
    with pytest.raises(StudyError, match="is no checkpoint that a study wrote"):
        rerank(path, "query", ["text"])
    _, damaged = write("true_false", name="damaged")
    with open(damaged / "model.safetensors", "r+b") as file:
        file.truncate(100)
    with pytest.raises(StudyError, match="or it is damaged"):
        rerank(damaged, "query", ["text"])


@pytest.mark.parametrize(
    ("query", "documents", "said"),
    [
        (" ", ["a"], "query = ' ': must be a text that is not empty"),
        ("a", [], r"documents = \[\]: is empty: give the text of one document or more"),
        ("a", {"d1": None}, "None under 'd1' is no text"),
    ],
)
def test_what_cannot_be_ranked_is_one_sentence(tmp_path, query, documents, said):
    with pytest.raises(StudyError, match=said):
        rerank(tmp_path, query, documents)
    with pytest.raises(StudyError, match="score = 'best': an ED2LM has log_likelihood, true_false, both"):
        rerank(tmp_path, "a", ["b"], score="best")
