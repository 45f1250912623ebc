"""What a study costs before it starts: see `pipeline.plan`.

Counts come from each rung's configuration alone; ten seconds of this machine, a matrix product and training steps of
the smallest rung, turn them into hours. What is assumed is printed beside them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PretrainedConfig

from rankscale_utils.collections import open_collection
from rankscale_utils.collections.groups import training_steps
from rankscale_utils.machine.device import compute_device, cores, hardware, visible_gpus
from rankscale_utils.models.build import empty_model, pair_flops, rung_config
from rankscale_utils.models.counts import Parameters, encoder_flops, parameters
from rankscale_utils.models.ed2lm_counts import first_word_flops
from rankscale_utils.models.export import Model
from rankscale_utils.models.lora import lora_parameters
from rankscale_utils.models.pretrained import bare_encoder, read_config
from rankscale_utils.models.published import longest_read
from rankscale_utils.report.prose import duration
from rankscale_utils.study import paths
from rankscale_utils.study.ladder import ETTIN, ETTIN_SHAPES
from rankscale_utils.study.objectives import Family
from rankscale_utils.study.study import Study
from rankscale_utils.training.run import plan_branches, planned_steps

from .planned_work import TEST_QUERIES, PlannedWork, pairs_of_tests

H100 = 1e14  # FLOP/s sustained in bf16, assumed where this machine has no GPU
MEMORY = 80e9  # bytes of a GPU, likewise
REACHED = 0.5  # share of the matrix product's rate that the largest models' steps reach at best
STATE_BYTES = 16  # a parameter in training: its weight, its gradient and AdamW's two moments, float32 each
RESUME_BYTES = 12  # a parameter in resume.pt: its weight and AdamW's two moments
CHECKPOINT_BYTES = 4  # a parameter of a saved model
INPUT_BYTES = 4  # a token and unit of hidden size that a recomputed layer keeps of what it read
SCORE_BYTES = 25  # a scored pair in a compressed TREC run


@dataclass(frozen=True)
class Machine:
    """What ten seconds of measuring say: FLOP/s of a matrix product and of the smallest rung's training steps.

    saved: bytes that a step keeps for its backward pass, for each token, layer and unit of hidden size.
    """

    name: str
    gpus: int
    memory: float
    product: float
    step: float
    saved: float


def planned_config(study: Study, rung: str, family: Family) -> PretrainedConfig:
    """Return a rung's configuration; Ettin's are known here, so that planning downloads nothing."""
    size = study.pretrained.get(rung, "").removeprefix(ETTIN)
    if size not in ETTIN_SHAPES:
        return rung_config(study, family, rung, study.text.vocabulary if not study.pretrained else 0)
    layers, hidden, width, heads = ETTIN_SHAPES[size]
    return AutoConfig.for_model(
        "modernbert", num_hidden_layers=layers, hidden_size=hidden, intermediate_size=width, num_attention_heads=heads
    )


def tokens_of_a_pair(study: Study) -> tuple[float, str]:
    """Return the mean length of a training pair in tokens, and where it comes from."""
    if not paths.collection_file(study.folder).exists():
        return float(study.text.pair_tokens), "assumed: every pair is as long as text.pair_tokens allows"
    collection = open_collection(study)
    pairs, groups = collection.pairs(), training_steps(collection.training_queries(), study.training.groups, 0)
    some = [next(groups) for _ in range(20)]
    lengths = [pairs.lengths(step.query_rows.ravel(), step.document_rows.ravel()) for step in some]
    return float(np.concatenate(lengths).mean()), "measured on the prepared collection"


def estimate_costs(study: Study, machine: Machine, tokens: float) -> pd.DataFrame:
    """Return a row for each rung of a family: its counts, FLOPs and hours of all runs, peak memory and disk in bytes.

    tokens: of a training pair. Runs on annotated pairs are counted as if none came to its end early.
    """
    return pd.concat([_of_family(study, family, machine, tokens) for family in study.families], ignore_index=True)


def _of_family(study: Study, family: Family, machine: Machine, tokens: float) -> pd.DataFrame:
    """Return the rows of one family's rungs; a larger rung's steps are faster in proportion to its hidden size."""
    work, rows, smallest = PlannedWork.of(study, family), [], None
    for rung in study.ladder:
        config = planned_config(study, rung, family)
        smallest = smallest or config.hidden_size
        model, counts, flops_of_a_pair = count_costs(study, family, rung, tokens)
        flops = flops_of_a_pair * _passes(study, family, rung, work)
        rate = min(machine.step * config.hidden_size / smallest, max(machine.step, REACHED * machine.product))
        rows.append(
            {
                "rung": rung if len(study.families) == 1 else f"{family} {rung}",
                "params": counts.total,
                "non_embedding": counts.non_embedding,
                "flops": flops,
                "hours": flops / rate / 3600,
                "hours_h100": flops / H100 / 3600,
                **_memory(study, machine, config, _state_bytes(study, model, counts.total), tokens),
                "disk": CHECKPOINT_BYTES * counts.total * work.checkpoints + SCORE_BYTES * work.scored,
            }
        )
    return pd.DataFrame(rows)


def count_costs(study: Study, family: Family, rung: str, tokens: float) -> tuple[Model, Parameters, float]:
    """Return a rung's empty model, its parameters, and the FLOPs of a forward pass over a pair of so many tokens."""
    longest = study.text.pair_tokens
    query = min(study.text.longest_query, longest // 2) * tokens / longest
    model = empty_model(study, family, rung, planned_config(study, rung, family))
    return model, parameters(model), pair_flops(model, query, tokens - query - 3)


def passes_of_a_step(study: Study) -> int:
    """Return the forward passes that a training step costs: a backward pass counts as two, and some are repeated."""
    share, at_once = _pairs_at_once(study)
    passes = 2 if study.training.lora else 3  # what LoRA freezes needs no gradient
    return passes + study.training.gradient_checkpointing + (at_once < share)


def _passes(study: Study, family: Family, rung: str, work: PlannedWork) -> int:
    """Return the forward passes over a pair that all runs of a rung cost."""
    annotated = [run for run in study.annotation_runs if run.rung == rung and family == "bi_encoder"]
    further = sum(planned_steps(plan_branches(study, run)) for run in annotated) * study.training.groups.pairs_per_step
    return (work.trained + further) * passes_of_a_step(study) + work.scored


def _state_bytes(study: Study, model: Model, params: int) -> float:
    """Return the bytes of a model in training, of which a process holds its part: LoRA's own are few."""
    training = study.training
    own = lora_parameters(model.encoder, training.lora) if training.lora else params
    frozen = CHECKPOINT_BYTES * params if training.lora else 0
    return (STATE_BYTES * own + frozen) / (training.gpus if training.sharded else 1)


def _memory(
    study: Study, machine: Machine, config: PretrainedConfig, states: float, tokens: float
) -> dict[str, float | int]:
    """Return a training step's peak `memory` in bytes, and the pairs at once that `fit` in the machine's."""
    training, layers = study.training, config.num_hidden_layers
    pair = machine.saved * tokens * config.hidden_size * (1 if training.gradient_checkpointing else layers)
    pair += INPUT_BYTES * tokens * config.hidden_size * layers * training.gradient_checkpointing
    return {"memory": states + _pairs_at_once(study)[1] * pair, "fit": int((machine.memory - states) // pair)}


def _pairs_at_once(study: Study) -> tuple[int, int]:
    """Return a process's share of a step in pairs, and how many of them are in memory at once."""
    training = study.training
    share = -(-training.groups.queries_per_step // training.gpus) * training.groups.size
    return share, min(training.micro_batch or share, share)


def measure_machine(study: Study) -> Machine:
    """Measure this machine for about ten seconds, in the precision that training would use."""
    device = compute_device(study.training.threads)
    cuda = device.type == "cuda"
    bf16 = study.training.precision == "bf16" or (study.training.precision == "auto" and cuda)
    size = 8192 if cuda else 1024
    matrix = torch.randn(size, size, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
    product = 2 * size**3 / _seconds(lambda: matrix @ matrix, device)
    rung, pretrained = next(iter(study.ladder)), bool(study.pretrained)
    settings = planned_config(study, rung, study.families[0] if pretrained else "cross_encoder")
    model, tokens = bare_encoder(settings).to(device).train(), study.text.pair_tokens
    pairs = min(study.training.groups.pairs_per_step, 256 if cuda else 16)
    ids = torch.randint(5, settings.vocab_size - 5, (pairs, tokens), device=device)
    held: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.sum().backward()

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        step()
    kept = sum(held.values()) - sum(held.get(p.untyped_storage().data_ptr(), 0) for p in model.parameters())
    rate = 3 * encoder_flops(model).forward(np.full(pairs, tokens)).sum() / _seconds(step, device)
    memory = torch.cuda.get_device_properties(0).total_memory if cuda else MEMORY
    unit = pairs * tokens * settings.hidden_size * settings.num_hidden_layers
    return Machine(str(hardware()["device"]), visible_gpus() if cuda else 0, memory, product, rate, kept / unit)


def _seconds(action: Callable[[], object], device: torch.device, budget: float = 3.0) -> float:
    """Return the fastest of an action's repetitions within a few seconds."""
    fastest, until = np.inf, time.monotonic() + budget
    while time.monotonic() < until:
        began = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - began)
    return fastest


def estimate_systems(study: Study, machine: Machine) -> pd.DataFrame:
    """Return system, params and hours for every model that exists, read from its configuration alone.

    As if every pair, or text, were as long as it reads: what it takes at most.
    """
    scored, rows = pairs_of_tests(study), []
    smallest = planned_config(study, next(iter(study.ladder)), study.families[0]).hidden_size
    for name, system in study.systems.items():
        field, source = f"systems.{name}", study.source_of(system.pretrained)
        config = read_config(field, source, system.layers)
        whole = AutoModelForSeq2SeqLM.from_config if config.is_encoder_decoder else bare_encoder
        with torch.device("meta"):
            encoder, model = bare_encoder(config), whole(config)
        reads = longest_read(field, source, config, system.pair_tokens)
        fixed, per_token = first_word_flops(config) if config.is_encoder_decoder else (0, 0)
        flops = scored * (float(encoder_flops(encoder).forward([reads])[0]) + fixed + per_token * reads)
        rate = min(machine.step * config.hidden_size / smallest, max(machine.step, REACHED * machine.product))
        rows.append({"system": name, "params": parameters(model).total, "hours": flops / rate / 3600})
    return pd.DataFrame(rows, columns=["system", "params", "hours"])


def estimate_text(study: Study, machine: Machine, tokens: float, source: str) -> str:
    """Return the estimate for people to read, with what is measured and what is assumed."""
    table, settings = estimate_costs(study, machine, tokens), study.training
    at_once = machine.gpus // settings.gpus if machine.gpus else cores() // settings.threads
    at_once = min(max(1, at_once), len(study.runs))
    resume = RESUME_BYTES * table["params"].max() * at_once
    shown = pd.DataFrame(
        {
            "rung": table["rung"],
            "parameters": table["params"].map("{:,}".format),
            "non-embedding": table["non_embedding"].map("{:,}".format),
            "FLOPs": table["flops"].map("{:.2e}".format),
            "GPU hours here" if machine.gpus else "hours here": table["hours"].map("{:.2f}".format),
            "H100 hours": table["hours_h100"].map("{:.2f}".format),
            "peak memory (GB)": (table["memory"] / 1e9).map("{:.2f}".format),
            "pairs that fit": table["fit"].map("{:,}".format),
            "disk (GB)": (table["disk"] / 1e9).map("{:.2f}".format),
        }
    )
    wall = table["hours"].sum() / at_once / (settings.gpus if machine.gpus else 1)
    pairs = planned_steps(plan_branches(study)) * settings.groups.pairs_per_step
    lines = [
        f"{study.name}: {len(study.runs)} runs of {pairs:,} training pairs, cool-downs included, and "
        f"{len(settings.exposures)} checkpoints each.",
        "",
        shown.to_string(index=False),
        "",
        f"In all: {duration(wall)} here with {at_once} at a time, {duration(table['hours_h100'].sum())} on one "
        f"H100; {(table['disk'].sum() + resume) / 1e9:.1f} GB of disk, of which {resume / 1e9:.1f} GB only until the "
        "runs end.",
        *_said_of_systems(estimate_systems(study, machine)),
        f"Measured here: {machine.name}; a matrix product runs at {machine.product / 1e12:.3g} TFLOP/s, training steps "
        f"of the smallest rung at {machine.step / 1e12:.3g} TFLOP/s; a step keeps {machine.saved:.0f} bytes for each "
        "token, layer and unit of hidden size.",
        f"Tokens of a pair: {tokens:.0f}, {source}.",
        f"Assumed: a larger rung's steps are faster in proportion to its hidden size, up to {REACHED:.0%} of the "
        f"product's rate; evaluation runs at the rate of training; {STATE_BYTES} bytes a parameter for weights, "
        f"gradients and AdamW, and a GPU of {machine.memory / 1e9:.0f} GB; an H100 sustains {H100 / 1e12:.0f} TFLOP/s; "
        f"a test of ir_datasets that names no number of queries has {TEST_QUERIES:,}.",
    ]
    return "\n".join(lines)


def _said_of_systems(systems: pd.DataFrame) -> list[str]:
    said = [f"{row.system} ({row.params:,} parameters) {duration(row.hours)}" for row in systems.itertuples()]
    return [f"Besides, models that exist score every test once and take at most: {', '.join(said)}."] if said else []
