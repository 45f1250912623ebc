"""A pretrained rung at its published shape: read from disk, trained, interrupted, evaluated, and read by others."""

import gzip

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForMaskedLM

from rankscale_utils.collections import open_collection
from rankscale_utils.evaluation.evaluate import evaluate_run
from rankscale_utils.models.build import build_model
from rankscale_utils.models.checkpoint import save_checkpoint
from rankscale_utils.study import paths
from rankscale_utils.study.ladder import ETTIN_SHAPES
from rankscale_utils.training.run import train
from tests.conftest import TINY
from tests.models.tiny import byte_pairs, save_pretrained, word_pieces

RUN = "listwise-large-s0"
SHAPES = {"modernbert": ETTIN_SHAPES["17m"], "bert": (4, 256, 1024, 4)}  # Ettin-17M, and BERT-mini (arXiv 1908.08962)
VOCABULARIES = {"modernbert": 50368, "bert": 30522}


def save_published(folder, architecture):
    """Write an encoder of a published shape with random weights, as its authors publish it."""
    layers, hidden, width, heads = SHAPES[architecture]
    tokenizer = {"bert": word_pieces, "modernbert": byte_pairs}[architecture]()
    config = AutoConfig.for_model(
        architecture,
        vocab_size=VOCABULARIES[architecture],
        num_hidden_layers=layers,
        hidden_size=hidden,
        intermediate_size=width,
        num_attention_heads=heads,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(params=["bert", "modernbert"])
def study(request, new_study, tmp_path):
    """Return a study of three tiny pretrained rungs and one of a published shape."""
    for width in (8, 12, 16):
        save_pretrained(tmp_path / "params" / f"w{width}", request.param, width)
    save_published(tmp_path / "params" / "large", request.param)
    return new_study(
        architecture=None,
        ladder={name: name for name in ("w8", "w12", "w16", "large")},
        held_out={"rungs": ["large"]},
        objectives={"listwise": {"seeds": [0], "learning_rate": {"base": 1e-3}}},
        training=TINY["training"] | {"exposures": [48, 96]},
        text={"query_tokens": None, "pair_tokens": 60},
        evaluation={"queries": 10, "depth": 10},
    )


def test_the_pretrained_path_from_disk_to_other_peoples_hands(study, tmp_path, monkeypatch):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    run, collection, cpu = study.run(RUN), open_collection(study), torch.device("cpu")
    source = load_file(tmp_path / "params" / "large" / "model.safetensors")
    start = build_model(study, run, collection.tokenizer().get_vocab_size()).state_dict()
    read = [name for name in source if (own := "encoder." + name.removeprefix("bert.").removeprefix("model.")) in start
            and torch.equal(source[name], start[own])]  # fmt: skip
    assert len(read) == len([name for name in start if not name.startswith("head.")])

    original, saved = save_checkpoint, []

    def breaks_after_one(model, path, *rest):
        if saved:
            raise KeyboardInterrupt
        saved.append(path)
        return original(model, path, *rest)

    monkeypatch.setattr("rankscale_utils.training.run.save_checkpoint", breaks_after_one)
    with pytest.raises(KeyboardInterrupt):
        train(study, run, collection, cpu)
    first = load_file(saved[0] / "model.safetensors")
    written = (saved[0] / "model.safetensors").stat().st_mtime_ns
    monkeypatch.setattr("rankscale_utils.training.run.save_checkpoint", original)
    ledger = train(study, run, collection, cpu)
    assert ledger["status"] == "complete"
    assert [row["exposure"] for row in ledger["checkpoints"]] == [48, 96]
    assert (saved[0] / "model.safetensors").stat().st_mtime_ns == written  # it went on, and did not start again
    last = paths.checkpoint_file(study.run_folder(run), 96)
    assert any(not torch.equal(tensor, first[name]) for name, tensor in load_file(last / "model.safetensors").items())

    table = evaluate_run(study, run, collection, cpu)
    assert table["excluded"].eq("").all()
    with gzip.open(next(study.run_folder(run).glob("exposure-000000096.*.run.gz")), "rt") as lines:
        ranked = pd.read_csv(lines, sep=" ", header=None, usecols=[0, 2, 4], names=["query", "document", "score"])
    texts = {"query": collection.queries(), "document": collection.documents()}
    for kind, rows in texts.items():
        by_id = rows.drop_duplicates(f"{kind}_id").set_index(f"{kind}_id")["text"]
        ranked[f"{kind}_text"] = ranked[kind].map(by_id)
    theirs = sentence_transformers.CrossEncoder(str(last), device="cpu")
    again = theirs.predict(list(zip(ranked["query_text"], ranked["document_text"], strict=True)))
    assert len(again) >= 20
    assert again == pytest.approx(ranked["score"].to_numpy(), abs=1e-4)
    assert ranked["score"].std() > 1e-3
