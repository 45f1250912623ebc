import re

import pytest
import torch
from transformers import AutoModel

from rankscale_utils.models.counts import encoder_flops, pass_flops
from rankscale_utils.models.cross_encoder import CrossEncoder
from rankscale_utils.models.published import read_published
from rankscale_utils.pipeline import estimate
from rankscale_utils.pipeline.estimate import (
    Machine,
    _seconds,
    estimate_costs,
    estimate_systems,
    estimate_text,
    planned_config,
    tokens_of_a_pair,
)
from rankscale_utils.pipeline.plan import main
from rankscale_utils.pipeline.planned_work import PlannedWork
from rankscale_utils.study.ladder import ETTIN_SHAPES
from rankscale_utils.study.loading import load_study
from rankscale_utils.study.paths import CHECKOUT
from rankscale_utils.training.run import plan_branches as branches
from rankscale_utils.training.run import planned_steps
from tests.models.tiny import save_encoder
from tests.training.test_run import short

MACHINE = Machine("a made-up GPU", 4, 80e9, 8e14, 1e14, 40.0)


def test_the_published_ladder_is_counted_without_a_download():
    table = estimate_costs(load_study(CHECKOUT / "params" / "msmarco.yaml"), MACHINE, 256.0).set_index("rung")
    printed = {"17m": 3.903e6, "32m": 12.542e6, "68m": 42.356e6, "150m": 110.332e6, "400m": 343.205e6, "1b": 937.791e6}
    for rung, count in printed.items():
        width = ETTIN_SHAPES[rung][1]
        head = width**2 + 2 * width + 1  # a layer, its norm, and the score
        assert table.loc[rung, "non_embedding"] - head == pytest.approx(count, rel=1e-3)
    assert table.loc["1b", "params"] - head == pytest.approx(1028.051e6, rel=1e-4)
    assert table["hours"].is_monotonic_increasing
    assert table.loc["1b", "memory"] > 16 * 1.028e9


def test_a_study_costs_the_flops_that_its_runs_really_take(new_study):
    study = new_study()
    row = estimate_costs(study, MACHINE, 32.0).set_index("rung").loc["w8"]
    with torch.device("meta"):
        model = CrossEncoder(
            AutoModel.from_config(planned_config(study, "w8", "cross_encoder"), add_pooling_layer=False)
        )
    forward = float(pass_flops(model).forward([32.0])[0])
    trained, scored = planned_steps(branches(study)) * 12, 40 * 10 * 3
    assert row["flops"] == pytest.approx(forward * (3 * trained + scored))
    assert trained == 1140  # 80 trunk steps to the last cool-down, and three cool-downs


def test_systems_and_the_queries_that_weights_are_learnt_on_are_counted(new_study, tmp_path):
    save_encoder(tmp_path / "params" / "theirs", "bert", 16, reranker=True)
    study = new_study(systems={"theirs": "theirs"}, with_first_stage={"queries": 25})
    assert PlannedWork.of(study, "cross_encoder").scored == (40 + 25) * 10 * 3  # queries, depth, exposures
    row = estimate_systems(study, MACHINE).iloc[0]
    encoder = read_published("systems.theirs", str(tmp_path / "params" / "theirs")).model.encoder
    assert row["params"] == sum(tensor.numel() for tensor in encoder.parameters())
    flops = (40 + 25) * 10 * float(encoder_flops(encoder).forward([104])[0])  # as long as it reads
    assert row["hours"] == pytest.approx(flops / 4e14 / 3600)  # half of the product's rate, at most
    text = estimate_text(study, MACHINE, 32.0, "assumed")
    assert f"score every test once and take at most: theirs ({row['params']:,} parameters) " in text


def test_micro_batches_and_checkpointing_trade_hours_for_memory(new_study):
    plain = estimate_costs(new_study(), MACHINE, 32.0)
    small = estimate_costs(new_study(training=short(micro_batch=3)), MACHINE, 32.0)
    checkpointed = estimate_costs(new_study(training=short(gradient_checkpointing=True)), MACHINE, 32.0)
    assert (small["flops"] > plain["flops"]).all()
    assert (small["memory"] < plain["memory"]).all()
    assert (checkpointed["flops"] == small["flops"]).all()
    assert (checkpointed["memory"] < plain["memory"]).all()


def test_a_sweep_is_counted_in(new_study):
    rate = {"base": 3e-3}
    plain = estimate_costs(new_study(objectives={"listwise": {"learning_rate": rate}}), MACHINE, 32.0)
    sweep = estimate_costs(
        new_study(objectives={"listwise": {"learning_rate": rate | {"sweep": [1, 2]}}}), MACHINE, 32.0
    )
    assert (sweep["flops"] > 1.2 * plain["flops"]).all()


def test_the_length_of_pairs_is_measured_once_the_collection_is_there(tiny_study, collection):
    assert tokens_of_a_pair(tiny_study) == (48.0, "assumed: every pair is as long as text.pair_tokens allows")
    tiny_study.folder.mkdir(parents=True)
    (tiny_study.folder / "collection.json").write_text("{}")
    tokens, source = tokens_of_a_pair(tiny_study)
    assert 10 < tokens <= 48
    assert source.startswith("measured")


def test_the_page_says_hours_disk_and_memory_and_what_is_assumed(new_study):
    text = estimate_text(new_study(), MACHINE, 48.0, "assumed")
    for words in ("GPU hours", "peak memory (GB)", "disk (GB)", "Measured here: a made-up GPU", "Assumed: a larger"):
        assert words in text


def test_a_plan_measures_this_machine(new_study, capsys, monkeypatch):
    new_study()
    seconds = _seconds
    monkeypatch.setattr(estimate, "_seconds", lambda action, device: seconds(action, device, 0.2))
    assert main("tiny") == 0
    said = capsys.readouterr().out
    assert re.search(r"a matrix product runs at \S+ TFLOP/s", said)
    assert "In all: about" in said


def test_a_study_that_brings_measurements_has_nothing_to_plan(capsys):
    assert main(str(CHECKOUT / "params" / "published.yaml")) == 0
    assert "nothing to plan" in capsys.readouterr().out


def test_a_mistake_is_one_sentence(tiny_study, capsys):
    assert main("tinny") == 2
    assert capsys.readouterr().err.startswith("rankscale: study 'tinny' is neither")
