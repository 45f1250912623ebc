"""LoRA: what is trained, what is saved, and what it costs."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from rankscale_utils.collections import open_collection
from rankscale_utils.errors import StudyError
from rankscale_utils.models.build import build_model
from rankscale_utils.models.checkpoint import load_checkpoint, model_of_folder
from rankscale_utils.models.lora import add_lora, lora_parameters, merged
from rankscale_utils.pipeline.estimate import Machine, estimate_costs
from rankscale_utils.study import paths
from rankscale_utils.study.training import Lora
from rankscale_utils.training.run import train
from rankscale_utils.training.trainer import Trainer
from tests.conftest import TINY
from tests.models.test_decoders import of
from tests.models.test_refused_models import study as of_encoders

__all__ = ["of", "of_encoders"]  # fixtures
CPU = torch.device("cpu")
RANK = 2


@pytest.mark.parametrize("way", ["head", "yes_no"])
def test_the_changes_and_a_new_head_alone_are_trained_and_what_is_saved_is_a_plain_model(of, way):
    study = of("qwen3", way, query_tokens=12, training={"lora": {"rank": RANK}})
    run, collection = study.run("listwise-w16-s0"), open_collection(study)
    vocabulary = collection.tokenizer().get_vocab_size()
    start = build_model(study, run, vocabulary)
    ledger = train(study, run, collection, CPU)
    assert ledger["status"] == "complete"
    path = paths.checkpoint_file(study.run_folder(run), 96)
    trained = load_checkpoint(build_model(study, run, vocabulary), path)
    before, after = start.state_dict(), trained.state_dict()
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    linear = {f"encoder.{name}.weight" for name, part in start.encoder.named_modules() if isinstance(part, nn.Linear)}
    assert moved == linear | ({"head.score.weight"} if way == "head" else set())
    change = (after["encoder.layers.0.mlp.up_proj.weight"] - before["encoder.layers.0.mlp.up_proj.weight"]).numpy()
    singular = np.linalg.svd(change, compute_uv=False)
    assert singular[RANK] < 1e-3 * singular[RANK - 1]
    assert not any("lora" in name for name in load_file(path / "model.safetensors"))
    assert model_of_folder(path).encoder.config.model_type == "qwen3"


def test_merged_weights_score_as_the_changed_model_does(of):
    study = of("llama", training={"lora": {"rank": RANK}}, attention_bias=True)
    model = build_model(study, study.run("listwise-w16-s0"), 300).eval()
    plain = build_model(study, study.run("listwise-w16-s0"), 300).eval()
    expected = lora_parameters(model.encoder, Lora(rank=RANK))
    add_lora(model, Lora(rank=RANK, alpha=3))
    assert expected == sum(part.numel() for part in model.encoder.parameters() if part.requires_grad)
    for name, part in model.named_parameters():
        if ".lora_" in name:
            nn.init.normal_(part, std=0.3)
    ids, mask = torch.randint(1, 300, (3, 20)), torch.ones(3, 20, dtype=torch.long)
    plain.load_state_dict(merged(model, model.state_dict()))
    with torch.inference_mode():
        changed, untouched = model(ids, mask), build_model(study, study.run("listwise-w16-s0"), 300).eval()(ids, mask)
        torch.testing.assert_close(plain(ids, mask), changed, atol=1e-5, rtol=0)
    assert (changed - untouched).abs().max() > 0.01


def test_training_flops_leave_out_what_is_frozen(of):
    whole = of("qwen3", query_tokens=12)
    run, collection = whole.run("listwise-w16-s0"), open_collection(whole)
    full = train(whole, run, collection, CPU)["checkpoints"][-1]
    study = of("qwen3", query_tokens=12, training={"lora": {"rank": RANK}})
    trainer = Trainer(study, run, collection, CPU)
    ledger = train(study, run, collection, CPU)["checkpoints"][-1]
    assert ledger["tokens"] == full["tokens"]
    assert ledger["flops"] == pytest.approx(full["flops"] * 2 / 3 + 6 * trainer.changes * full["tokens"])


def test_the_plan_counts_fewer_passes_and_less_memory(of):
    machine = Machine("test", 0, 80e9, 1e12, 1e11, 40)
    tables = [
        estimate_costs(of("qwen3", training=training), machine, 100.0) for training in ({}, {"lora": {"rank": RANK}})
    ]
    whole, lora = (table.set_index("rung").loc["w24"] for table in tables)
    pd.testing.assert_series_equal(
        whole[["params", "non_embedding", "disk"]], lora[["params", "non_embedding", "disk"]]
    )
    assert lora["flops"] < 0.8 * whole["flops"]
    assert lora["memory"] < whole["memory"]


def test_lora_is_refused_where_there_is_no_decoder_to_change(new_study, of_encoders):
    with pytest.raises(StudyError, match=r"lora: \['w4', 'w6', 'w8', 'w12'\] are trained from scratch, which leaves"):
        new_study(training=TINY["training"] | {"lora": {"rank": 8}})


def test_a_run_without_lora_keeps_its_identity(new_study):
    study = new_study()
    assert "lora" not in study.settings_of(study.runs[0])["training"]
    assert "decoder" not in study.settings_of(study.runs[0])
