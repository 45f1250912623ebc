"""The ladder: each rung's model built from its shape, and its checkpoints on disk."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, PretrainedConfig

from rankscale_utils.files import whole_file
from rankscale_utils.models.cross_encoder import CrossEncoder, initialise
from rankscale_utils.study import Run, Study, run_seed


def config(study: Study, rung: str, vocabulary: int) -> PretrainedConfig:
    """Return the transformers configuration of a rung; `vocabulary` is the tokenizer's real size."""
    shape = study.ladder[rung]
    settings = {
        "vocab_size": vocabulary,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": study.text.pair_tokens,
        "pad_token_id": 0,
    }
    if study.architecture == "bert":
        settings |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    else:
        settings |= {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    return AutoConfig.for_model(study.architecture, **settings)


def build(study: Study, run: Run, vocabulary: int) -> CrossEncoder:
    """Return a run's model at its start: the rung's shape, weights drawn from the run's own seed."""
    torch.manual_seed(run_seed(run, "weights"))
    without_pooler = {"add_pooling_layer": False} if study.architecture == "bert" else {}
    encoder = AutoModel.from_config(config(study, run.rung, vocabulary), **without_pooler)
    return initialise(CrossEncoder(encoder), prior=1 / study.training.groups.size)


def checkpoint_file(folder: Path, exposure: int) -> Path:
    """Where the weights of a run after `exposure` training pairs lie."""
    return folder / f"exposure-{exposure:09d}.safetensors"


def save(model: CrossEncoder, path: Path) -> None:
    """Write the weights, whole or not at all."""
    with whole_file(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, temporary)


def load(model: CrossEncoder, path: Path) -> CrossEncoder:
    """Read a checkpoint's weights into a model of the same shape, and return it."""
    model.load_state_dict(load_file(path))
    return model
