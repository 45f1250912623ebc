"""Every family through the one loop: trained, saved for other people's tools, evaluated, forecast and timed."""

import dataclasses
import gzip
import math

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM

from rankscale_utils.analysis.fit import fit_study
from rankscale_utils.analysis.forecast import score_study, seal_study
from rankscale_utils.analysis.speedup import forecast_served, of_the_laws
from rankscale_utils.collections import open_collection
from rankscale_utils.collections.groups import training_steps
from rankscale_utils.collections.singles import singles
from rankscale_utils.errors import StudyError
from rankscale_utils.evaluation.contrastive_entropy import NEGATIVES, REPEATS
from rankscale_utils.evaluation.evaluate import evaluate_run
from rankscale_utils.evaluation.metrics import metrics_per_query, open_test
from rankscale_utils.evaluation.scorers import scorer
from rankscale_utils.evaluation.speed import measure_study
from rankscale_utils.machine.files import hashes_of, read_json, write_json
from rankscale_utils.models.build import build_model
from rankscale_utils.models.checkpoint import load_checkpoint
from rankscale_utils.models.counts import parameters
from rankscale_utils.models.ed2lm import load_ed2lm
from rankscale_utils.pipeline.prepare import prepare
from rankscale_utils.report import speedup as speedup_page
from rankscale_utils.scoring.embeddings import embed
from rankscale_utils.study import paths
from rankscale_utils.training.distributed import Processes
from rankscale_utils.training.run import train
from rankscale_utils.training.trainer import Trainer
from tests.conftest import TINY
from tests.models.tiny import save_t5

CPU = torch.device("cpu")
RATE = {"learning_rate": {"base": 3.0e-3}}
SHAPES = {"w4": {"hidden": 4}, "w6": {"hidden": 6}, "w8": {"hidden": 8}, "w12": {"hidden": 12}}
OBJECTIVES = {
    "contrastive": RATE | {"in_batch": True},
    "true_false": RATE,
    "unlikelihood": RATE,
    "margin": RATE | {"score": "both"},
}


@pytest.fixture
def families(new_study):
    """Return the tiny study with objectives of every family, ED2LM's states read one by one or in twos."""
    return new_study(
        "families",
        objectives=TINY["objectives"] | OBJECTIVES,
        ed2lm={"encoder_layers": 1, "poolings": [1, 2]},
        evaluation=TINY["evaluation"] | {"negatives": 100},
    )


def trained_run(study, objective, rung="w8"):
    """Train and evaluate a run; return it with its ledger and its measurements."""
    run, collection = study.run(f"{objective}-{rung}-s0"), open_collection(study)
    return run, train(study, run, collection, CPU), evaluate_run(study, run, collection, CPU)


def last_model(study, run, ledger):
    vocabulary = open_collection(study).tokenizer().get_vocab_size()
    path = paths.checkpoint_file(study.run_folder(run), ledger["checkpoints"][-1]["exposure"])
    return load_checkpoint(build_model(study, run, vocabulary), path).eval(), path


def test_a_bi_encoder_whose_embeddings_are_no_numbers_is_excluded_with_the_reason(families):
    run, ledger, _ = trained_run(families, "contrastive")
    _, path = last_model(families, run, ledger)
    file = path / "model.safetensors"
    save_file({name: tensor * math.nan for name, tensor in load_file(file).items()}, file)
    ledger["checkpoints"][-1]["files"] = hashes_of(path)  # as if training had ended there
    write_json(families.run_folder(run) / "ledger.json", ledger)
    table = evaluate_run(families, run, open_collection(families), CPU)
    found = table.groupby(["collection", "exposure"])["excluded"].first().unstack()
    assert set(found.iloc[:, -1]) == {"scores that are not numbers"}
    assert set(found.iloc[:, :-1].to_numpy().ravel()) == {""}


@pytest.mark.parametrize("objective", ["listwise", *OBJECTIVES])
def test_a_step_in_micro_batches_has_the_gradient_of_the_whole(families, objective):
    families = families.model_copy(update={"ed2lm": families.ed2lm.model_copy(update={"poolings": (1,)})})
    collection, run = open_collection(families), families.run(f"{objective}-w8-s0")
    step = next(training_steps(collection.training_queries(), families.training.groups, 0))
    found = []
    for micro_batch in (None, 3):
        training = families.training.model_copy(update={"micro_batch": micro_batch})
        trainer = Trainer(families.model_copy(update={"training": training}), run, collection, CPU)
        _, loss, scores = trainer._gradient(trainer._ready(step))
        found.append((loss.item(), scores, [p.grad for p in trainer.model.parameters() if p.grad is not None]))
    (loss, scores, whole), (again, others, parts) = found
    assert again == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(others, scores, atol=1e-4, rtol=1e-4)
    assert len(whole) == len(parts)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-3)
    assert sum(float(one.abs().sum()) for one in whole) > 0.01


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_training_lowers_the_loss_and_the_ledger_says_what_was_trained(families, objective):
    run = families.run(f"{objective}-w8-s0")
    ledger = train(families, run, open_collection(families), CPU)
    assert ledger["status"] == "complete"
    assert ledger["family"] == families.family_of(objective)
    losses = ledger["curve"]["loss"]
    assert losses[-1] < losses[0]
    model, _ = last_model(families, run, ledger)
    assert (ledger["params"], ledger["params_non_embedding"]) == dataclasses.astuple(parameters(model))
    assert [row["flops"] > 0 for row in ledger["checkpoints"]] == [True] * 3


def test_a_bi_encoders_flops_are_those_of_the_texts_it_read(families):
    run, collection = families.run("contrastive-w8-s0"), open_collection(families)
    trainer = Trainer(families, run, collection, CPU, Processes())
    step = next(training_steps(collection.training_queries(), families.training.groups, 0))
    queries, documents = singles(collection.pairs(), families.text)
    texts = np.concatenate([queries.lengths(step.query_rows[:, 0]), documents.lengths(step.document_rows.ravel())])
    weights = sum(2 * m.weight.numel() for m in trainer.model.encoder.modules() if isinstance(m, torch.nn.Linear))
    by_hand = weights * texts.sum() + 4 * 8 * 2 * (texts**2).sum() + 2 * 768 * 8 * len(texts)
    assert trainer.learner.flops(step) == pytest.approx(by_hand)
    assert trainer.learner.lengths(step).sum() == texts.sum()


def test_a_negative_that_is_relevant_to_a_query_is_no_negative_of_it(families):
    collection = open_collection(families)
    trainer = Trainer(families, families.run("contrastive-w8-s0"), collection, CPU)
    step = next(training_steps(collection.training_queries(), families.training.groups, 0))
    outputs = torch.randn(4 * trainer.learner.items, 768, generator=torch.Generator().manual_seed(0))
    plain = trainer.learner.loss(outputs, step)
    swapped = step._replace(document_rows=step.document_rows.copy())
    swapped.document_rows[0, 2] = step.document_rows[1, 0]  # the first query draws the second one's positive
    assert trainer.learner.loss(outputs, swapped) < plain


def test_search_and_entropy_are_those_of_sentence_transformers_embeddings_by_brute_force(families):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    run, ledger, table = trained_run(families, "contrastive")
    collection, test = open_collection(families), open_test(families, open_collection(families))
    _, path = last_model(families, run, ledger)
    theirs = sentence_transformers.SentenceTransformer(str(path), device="cpu")
    documents, queries = collection.documents(), collection.queries()
    embedded = theirs.encode_document(documents["text"].tolist())
    assert embedded.shape[1] == 768
    asked = queries[queries["test"] == test.name]
    scores = theirs.encode_query(asked["text"].tolist()) @ embedded.T
    own = table[table["exposure"] == ledger["checkpoints"][-1]["exposure"]].set_index(["task", "metric"])["value"]
    assert set(table["collection"]) == {test.name}

    ids = documents["document_id"].to_numpy()
    rows = [
        pd.DataFrame({"query_id": query, "query_row": row, "document_id": ids[best], "score": of[best]})
        for row, query, of in zip(asked.index, asked["query_id"], scores, strict=True)
        for best in [np.argsort(-of, kind="stable")[: families.evaluation.depth]]
    ]
    found = pd.concat(rows, ignore_index=True).assign(retrieved=True)
    brute = metrics_per_query(dataclasses.replace(test, candidates=found), found["score"].to_numpy())
    for metric, values in brute.groupby("metric")["value"]:
        assert own["search", metric] == pytest.approx(values.mean(), abs=1e-6), metric
    run_file = path.with_name(f"{path.name}.docstrings-test-searched.run.gz")
    lines = gzip.decompress(run_file.read_bytes()).decode().splitlines()
    assert len(lines) == families.evaluation.depth * len(asked)

    positives = test.candidates[test.candidates["positive"]]
    places = np.searchsorted(asked.index, positives["query_row"])
    others = np.setdiff1d(ids, test.judgments.loc[test.judgments["relevance"] > 0, "doc_id"])
    margins = scores[places] - scores[places, positives["document_row"]][:, None]
    pool = np.exp(margins[:, np.isin(ids, others)]).mean(1)
    expected = np.log1p(100 * pool).mean()  # by Jensen's inequality above what draws of 100 give, and near it
    assert own["search", "CE100"] == pytest.approx(expected, rel=0.05)


def test_a_projection_multiplied_out_changes_no_score(families):
    run, ledger, _ = trained_run(families, "contrastive")
    model, _ = last_model(families, run, ledger)
    queries, documents = singles(open_collection(families).pairs(), families.text)
    rows = np.arange(50)
    short = embed(model, queries, rows, of_queries=True) @ embed(model, documents, rows).T
    with torch.no_grad():
        whole = model(*queries.batch(rows)) @ model(*documents.batch(rows)).T
    assert embed(model, documents, rows).shape == (50, 9)
    np.testing.assert_allclose(short, whole.numpy(), atol=1e-4 * float(whole.abs().max()))


def test_an_entropy_without_enough_documents_is_one_sentence(new_study):
    study = new_study(
        "few", objectives={"contrastive": RATE}, evaluation={"negatives": 5000, "pool": 6000, "depth": 10}
    )
    with pytest.raises(
        StudyError, match=r"evaluation\.negatives = 5000: docstrings/test has \d+ documents that are rel"
    ):
        prepare(study)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"objectives": {"contrastive": RATE}, "bi_encoder": {"dimensions": {"w4": 64, "w6": 32}}},
            r"bi_encoder\.dimensions = .*: rungs project to different dimensions \(w4 to 64, w6 to 32\): a ladder",
        ),
        (
            {"family": "bi_encoder"},
            "listwise compares the scores of pairs, which a bi_encoder does not read: write con",
        ),
        ({"evaluation": {"negatives": 300, "pool": 200}}, "pool = 200: so few documents do not hold negatives = 300"),
        ({"objectives": {"listwise": RATE | {"score": "both"}}}, "listwise.score: only ed2lm has several scores"),
        ({"objectives": {"listwise": RATE | {"in_batch": True}}}, "listwise.in_batch: only contrastive has a batch's"),
        ({"ed2lm": {"poolings": [0]}}, "each is a number of tokens from 1 on, given once: correct them"),
    ],
)
def test_what_a_family_cannot_do_is_one_sentence(new_study, changes, said):
    with pytest.raises(StudyError, match=said):
        new_study(**changes)


@pytest.mark.parametrize("objective", ["true_false", "unlikelihood", "margin"])
def test_an_ed2lm_is_measured_by_the_scores_that_its_saved_folder_gives(families, objective):
    run, ledger, table = trained_run(families, objective)
    _, path = last_model(families, run, ledger)
    model, collection = load_ed2lm(path).eval(), open_collection(families)
    assert AutoModelForSeq2SeqLM.from_pretrained(path).num_parameters() == ledger["params"]
    assert model.setting.poolings == (1, 2)
    test = open_test(families, collection)
    queries, documents = singles(collection.pairs(), families.text, "ed2lm")
    kind = {"true_false": "true_false", "unlikelihood": "log_likelihood", "margin": "both"}[objective]
    with torch.inference_mode():
        batches = (documents.batch(test.candidates["document_row"].to_numpy()),
                   queries.batch(test.candidates["query_row"].to_numpy()))  # fmt: skip
        scores = model(*batches[0], *batches[1]).scores(kind).numpy()
    (ranked,) = scorer(families, objective, collection).rank(model)
    np.testing.assert_allclose(ranked.scores, scores, atol=2e-5 * np.abs(scores).max())
    last = table[table["exposure"] == ledger["checkpoints"][-1]["exposure"]]
    own = last[last["score"] == "own"].set_index("metric")["value"]
    for metric, values in ranked.values[ranked.values["score"] == "own"].groupby("metric")["value"]:
        assert own[metric] == pytest.approx(values.mean(), rel=1e-9), metric
    beside = {"log_likelihood", "true_false"} if kind == "both" else set()
    assert set(last["score"]) == {"own"} | beside
    assert set(table.loc[table["exposure"] < last["exposure"].iloc[0], "score"]) <= {"own"}  # others at the end alone


def test_families_are_prepared_forecast_scored_and_timed_together(families, small_batch, monkeypatch):
    # So few steps teach a model little, and a series at chance is left out.
    never = lambda ends, directions: np.zeros(len(ends), bool)  # noqa: E731
    monkeypatch.setattr("rankscale_utils.analysis.left_out.at_chance", never)
    prepare(families)
    rungs = read_json(families.folder / "ladder.json")["rungs"]
    assert list(rungs) == ["cross_encoder", "bi_encoder", "ed2lm"]
    assert len({rungs[family]["w12"]["params_non_embedding"] for family in rungs}) == 3
    few = families.model_copy(
        update={
            "objectives": {name: families.objectives[name] for name in ("listwise", "contrastive", "true_false")},
            "forecasting": families.forecasting.model_copy(update={"metrics": ("nDCG@10", "CE100"), "draws": 100}),
        }
    )
    collection = open_collection(few)
    for run in few.fitted_runs:
        train(few, run, collection, CPU)
        evaluate_run(few, run, collection, CPU)
    fitted = fit_study(few)
    series = {(one.objective, one.metric, one.collection, one.task) for one in fitted}
    assert {
        ("listwise", "nDCG@10", "docstrings/test", "rerank"),
        ("true_false", "nDCG@10", "docstrings/test", "rerank"),
        ("contrastive", "nDCG@10", "docstrings/test", "search"),
    } < series
    sealed = seal_study(few, fitted)
    sizes = sealed.groupby("objective")["params"].unique().str[0].to_dict()
    assert sizes == {name: rungs[few.family_of(name)]["w12"]["params"] for name in few.objectives}
    for run in set(few.runs) - set(few.fitted_runs):
        train(few, run, collection, CPU)
        evaluate_run(few, run, collection, CPU)
    scored = score_study(few, fitted)
    assert np.isfinite(scored["actual"]).all()
    timed = measure_study(few, collection, CPU, queries=3, repeats=1)
    assert set(timed["family"]) == {"cross_encoder", "bi_encoder", "ed2lm", "bm25"}
    assert "ED2LM, states pooled by 2" in set(timed["name"])
    assert np.isfinite(timed["value"]).all()
    forecasts_are_the_sealed_ones_at_the_rungs(few, fitted, sealed, timed)


def forecasts_are_the_sealed_ones_at_the_rungs(study, fitted, sealed, timed):
    """Check what the laws forecast of served models, at the sizes of rungs, beside the seal and the clock."""
    made, laws_are_of = forecast_served(study, fitted, timed), of_the_laws(study, timed)
    stored = ["states projected", "states", "keys and values"]  # pooled states rank otherwise than was evaluated
    names = ["ED2LM in full", *(f"ED2LM, {way}" for way in stored), "bi-encoder", "cross-encoder"]
    assert made["name"].unique().tolist() == names
    assert set(made["task"]) == {"rerank"}  # not what the bi-encoder found itself
    wanted = (sealed["law"] == "average") & (sealed["kind"] == "new_run") & (sealed["metric"] == "nDCG@10")
    theirs = sealed[wanted & (sealed["task"] == "rerank")].set_index("objective")
    sizes = {"params_non_embedding": float}
    rungs = laws_are_of.astype(sizes).merge(made, on=["name", *sizes], suffixes=("_timed", ""))
    assert len(rungs) == 6 * 4
    latency = rungs.groupby("name")[["p50_ms", "p50_ms_timed"]]
    np.testing.assert_allclose(*latency.agg(lambda times: np.log(times).mean()).to_numpy().T)
    held_out = rungs[rungs["rung"] == "w12"]
    for column in ("forecast", "lo", "hi", "coverage"):
        np.testing.assert_allclose(held_out[column], theirs.loc[held_out["objective"], column], rtol=1e-6)
    reached = made.groupby("name")["params_non_embedding"].agg(["min", "max"])
    timed_sizes = laws_are_of.groupby("name")["params_non_embedding"].agg(["min", "max"])
    assert (reached["min"] == timed_sizes["min"][reached.index]).all()
    assert (reached["max"] > 3.7 * timed_sizes["max"][reached.index]).all()
    assert "Best forecast" in speedup_page.forecast_within_sentence(made, "nDCG@10", [1e6])
    assert all(rows["p50_ms"].is_monotonic_increasing for _, rows in made.groupby("name"))
    (axes,) = speedup_page.forecast_and_latency(made, laws_are_of, study.held_out.rungs)
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == names
    none = forecast_served(study, fitted, timed.assign(metric="RR@10"))  # of which there are no laws
    assert "no law of RR@10 was fitted" in speedup_page.forecast_within_sentence(none, "RR@10", [1e6])
    assert speedup_page.forecast_and_latency(none, laws_are_of, study.held_out.rungs) == []


KINDS = {
    "t5": {},
    "v1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "mt5": {"kind": "mt5"},
    "umt5": {"kind": "umt5"},
}


@pytest.fixture(params=KINDS)
def pretrained_t5(request, new_study, tmp_path):
    """Return what writes a study of four tiny pretrained T5s of one of `KINDS`."""

    def write(**changes):
        for width in (8, 12, 16, 24):
            save_t5(tmp_path / "params" / f"w{width}", width, **KINDS[request.param])
        fields = {
            "family": "ed2lm",
            "ladder": {name: name for name in ("w8", "w12", "w16", "w24")},
            "held_out": {"rungs": ["w24"]},
            "objectives": {"true_false": RATE},
        }
        return new_study("pretrained", **(fields | changes))

    return write


def test_a_pretrained_t5_keeps_its_weights_and_says_true_or_false_in_its_own_words(pretrained_t5, tmp_path):
    study = pretrained_t5()
    prepare(study)
    collection, run = open_collection(study), study.run("true_false-w12-s0")
    tokenizer = collection.tokenizer()
    start = build_model(study, run, tokenizer.get_vocab_size())
    assert (tokenizer.decode([start.setting.true_id]), tokenizer.decode([start.setting.false_id])) == ("true", "false")
    source = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "params" / "w12").state_dict()
    assert all(torch.equal(start.t5.state_dict()[name], tensor) for name, tensor in source.items())
    queries, documents = singles(collection.pairs(), study.text, "ed2lm")
    batch = documents.batch(np.arange(3))
    ends = batch.input_ids[torch.arange(3), batch.attention_mask.sum(1) - 1]
    assert tokenizer.decode(ends.tolist(), skip_special_tokens=False).count("</s>") == 3
    assert "</s>" not in tokenizer.decode(queries.batch(np.arange(1)).input_ids[0].tolist(), skip_special_tokens=False)
    _, ledger, table = trained_run(study, "true_false", "w12")
    assert ledger["status"] == "complete"
    assert np.isfinite(table["value"]).all()
    counts = read_json(study.folder / "ladder.json")["rungs"]["ed2lm"]["w12"]
    assert (counts["params"], counts["params_non_embedding"]) == dataclasses.astuple(parameters(start))


def test_a_model_of_another_family_is_one_sentence(pretrained_t5):
    study = pretrained_t5(family="cross_encoder", objectives=TINY["objectives"])
    with pytest.raises(
        StudyError, match=r"^ladder\.w8 = .* is a u?m?t5 model: cross_encoder needs an encoder, such as"
    ):
        prepare(study)


def test_contrastive_entropy_defaults_are_those_of_the_paper():
    assert (NEGATIVES, REPEATS) == (256, 10)
