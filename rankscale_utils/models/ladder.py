"""The ladder: each rung's model, built from its shape or from pretrained weights, and its checkpoints on disk."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig

from rankscale_utils import pretrained
from rankscale_utils.files import whole_folder
from rankscale_utils.models import layout
from rankscale_utils.models.counts import Parameters, parameters
from rankscale_utils.models.cross_encoder import CrossEncoder, initialise
from rankscale_utils.study import Run, Study, StudyError, run_seed


def config(study: Study, rung: str, vocabulary: int) -> PretrainedConfig:
    """Return the transformers configuration of a rung; `vocabulary` is the tokenizer's real size.

    Raises:
        StudyError: a pretrained rung cannot be read, or has too few embeddings for the study's tokens or positions.
    """
    if rung in study.pretrained:
        return _pretrained_config(study, rung, vocabulary)
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


def _pretrained_config(study: Study, rung: str, vocabulary: int) -> PretrainedConfig:
    source, longest = study.pretrained[rung], study.text.pair_tokens
    found = pretrained.read_config(rung, source)
    if found.max_position_embeddings < longest:
        raise StudyError(
            f"text.pair_tokens = {longest}: ladder.{rung} = {source!r} reads {found.max_position_embeddings} tokens at "
            "most: lower pair_tokens."
        )
    if found.vocab_size < vocabulary:
        raise StudyError(
            f"ladder.{rung} = {source!r}: its tokenizer has {vocabulary} tokens and its model {found.vocab_size}: name "
            "a model that belongs to its tokenizer."
        )
    return found


def build(study: Study, run: Run, vocabulary: int) -> CrossEncoder:
    """Return a run's model at its start, all that is random drawn from the run's own seed.

    A rung given as a shape is initialised as `initialise` says. A pretrained rung keeps its weights; its new head reads
    [CLS] and starts small and random.

    Raises:
        StudyError: a pretrained rung cannot be read.
    """
    torch.manual_seed(run_seed(run, "weights"))
    settings = config(study, run.rung, vocabulary)
    if run.rung in study.pretrained:
        model = CrossEncoder(pretrained.read_encoder(run.rung, study.pretrained[run.rung]), reads="cls")
        nn.init.normal_(model.head.weight, std=0.02)  # as transformers starts a new head
        return model
    encoder = AutoModel.from_config(settings, **pretrained.without_pooler(settings))
    return initialise(CrossEncoder(encoder), prior=1 / study.training.groups.size)


def count(study: Study, rung: str, vocabulary: int) -> Parameters:
    """Return a rung's counts from its configuration alone: no weights are read or made."""
    settings = config(study, rung, vocabulary)
    with torch.device("meta"):
        return parameters(CrossEncoder(AutoModel.from_config(settings, **pretrained.without_pooler(settings))))


def check(study: Study) -> None:
    """Read every pretrained rung's weights once, so that what is missing stops the study before anything is trained.

    Weights that are not in the cache yet are downloaded into it.

    Raises:
        StudyError: a rung's weights cannot be read.
    """
    for rung, source in study.pretrained.items():
        config(study, rung, vocabulary=0)
        pretrained.read_encoder(rung, source)


def checkpoint_file(folder: Path, exposure: int) -> Path:
    """Where the model of a run after `exposure` training pairs lies."""
    return folder / f"exposure-{exposure:09d}"


def save(model: CrossEncoder, path: Path, tokens: Path, weights: dict[str, Tensor] | None = None) -> None:
    """Write a checkpoint, whole or not at all, that `sentence_transformers.CrossEncoder(path)` loads.

    `tokens` is the folder that holds the study's tokenizer; `weights`, the whole model's, are given when the model
    itself holds only its part of them.
    """
    with whole_folder(path) as temporary:
        layout.write(model, model.state_dict() if weights is None else weights, temporary, tokens)


def load(model: CrossEncoder, path: Path) -> CrossEncoder:
    """Read a checkpoint's weights into a model of the same shape, and return it.

    Raises:
        StudyError: the checkpoint is damaged or gone.
    """
    try:
        weights = layout.read(path)
    except (OSError, SafetensorError) as error:
        raise StudyError(
            f"checkpoint {path} is damaged or gone: delete {path.parent / 'ledger.json'} and run the study again, "
            "which trains that run anew and nothing else."
        ) from error
    model.load_state_dict(weights)
    return model
