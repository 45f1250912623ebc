"""The ladder: each rung's model, built from its shape or from pretrained weights, and its checkpoints on disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    PretrainedConfig,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from rankscale_utils import pretrained
from rankscale_utils.files import whole_folder
from rankscale_utils.models import bi_encoder, cross_encoder, ed2lm, ed2lm_start, layout
from rankscale_utils.models.bi_encoder import BiEncoder
from rankscale_utils.models.counts import Parameters, flops, parameters
from rankscale_utils.models.cross_encoder import CrossEncoder
from rankscale_utils.models.ed2lm import Ed2lm
from rankscale_utils.models.ed2lm_counts import Work, full_flops
from rankscale_utils.models.layout import Model
from rankscale_utils.parts import Family
from rankscale_utils.study import Run, Study, StudyError, run_seed

VERDICT = ("true", "false")  # what a new T5 can say beside its tokenizer's words


def config(study: Study, family: Family, rung: str, vocabulary: int) -> PretrainedConfig:
    """Return the transformers configuration of a rung; `vocabulary` is the tokenizer's real size.

    Raises:
        StudyError: a pretrained rung cannot be read, or has too few embeddings for the study's tokens or positions.
    """
    if rung in study.pretrained:
        return _pretrained_config(study, family, rung, vocabulary)
    return _t5_config(study, rung, vocabulary) if family == "ed2lm" else _encoder_config(study, rung, vocabulary)


def _t5_config(study: Study, rung: str, vocabulary: int) -> T5Config:
    shape = study.ladder[rung]
    return T5Config(
        vocab_size=vocabulary + len(VERDICT),
        d_model=shape.hidden,
        d_kv=shape.hidden // shape.heads,
        d_ff=shape.intermediate,
        num_heads=shape.heads,
        num_layers=study.ed2lm.encoder_layers or shape.layers,
        num_decoder_layers=shape.layers,
        dropout_rate=0.0,
        tie_word_embeddings=False,
        pad_token_id=0,
        decoder_start_token_id=2,  # [CLS]
        eos_token_id=3,  # [SEP]
    )


def _encoder_config(study: Study, rung: str, vocabulary: int) -> PretrainedConfig:
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


def _pretrained_config(study: Study, family: Family, rung: str, vocabulary: int) -> PretrainedConfig:
    source, longest = study.pretrained[rung], study.text.pair_tokens
    found = pretrained.read_config(rung, source)
    if (found.model_type == "t5") != (family == "ed2lm"):
        raise StudyError(
            f"ladder.{rung} = {source!r} is a {found.model_type} model: ed2lm needs one of T5's, the other families "
            "one of BERT's or ModernBERT's."
        )
    if family != "ed2lm" and found.max_position_embeddings < longest:
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


def build(study: Study, run: Run, vocabulary: int, shares: Callable[[], np.ndarray] | None = None) -> Model:
    """Return a run's model at its start, all that is random drawn from the run's own seed.

    A rung given as a shape is initialised as its family's `initialise` says. A pretrained rung keeps its weights; what
    is new on top starts random: a cross-encoder's head, which reads [CLS], and a bi-encoder's projection.
    vocabulary: the tokenizer's size; shares: tells each token's share of all tokens (vocabulary,), which new models
    that read query and document apart start from; without it they are as transformers starts them.

    Raises:
        StudyError: a pretrained rung cannot be read.
    """
    torch.manual_seed(run_seed(run, "weights"))
    family = study.family_of(run.objective)
    model = _new(study, family, run.rung, vocabulary)
    if run.rung in study.pretrained:
        return model
    if family == "cross_encoder":
        return cross_encoder.initialise(model, prior=1 / study.training.groups.size)
    if not shares:
        return model
    words = torch.from_numpy(shares())
    if family == "bi_encoder":
        return bi_encoder.initialise(model, words)
    return ed2lm_start.initialise(model, torch.cat([words, words.new_ones(len(VERDICT))]))


def _new(study: Study, family: Family, rung: str, vocabulary: int) -> Model:
    """Return a run's model before anything is initialised but what is pretrained."""
    source, settings = study.pretrained.get(rung), config(study, family, rung, vocabulary)
    if family == "ed2lm":
        setting = _setting(study, rung, vocabulary)
        return Ed2lm(pretrained.read_t5(rung, source), setting) if source else ed2lm.build(settings, setting)
    encoder = pretrained.read_encoder(rung, source) if source else _encoder(settings)
    model = _around(study, family, rung, encoder)
    if source and family == "cross_encoder":
        nn.init.normal_(model.head.weight, std=0.02)  # as transformers starts a new head
    return model


def _encoder(settings: PretrainedConfig) -> PreTrainedModel:
    return AutoModel.from_config(settings, **pretrained.without_pooler(settings))


def _around(study: Study, family: Family, rung: str, encoder: PreTrainedModel) -> CrossEncoder | BiEncoder:
    if family == "bi_encoder":
        return BiEncoder(encoder, **study.bi_encoder.model_dump())
    return CrossEncoder(encoder, reads="cls" if rung in study.pretrained else "query")


def empty(study: Study, family: Family, rung: str, settings: PretrainedConfig) -> Model:
    """Return a model of this configuration that has shapes and no weights."""
    with torch.device("meta"):
        if family == "ed2lm":
            return Ed2lm(T5ForConditionalGeneration(settings), ed2lm.Setting(0, 1, study.text.document_tokens + 1))
        return _around(study, family, rung, _encoder(settings))


def _setting(study: Study, rung: str, vocabulary: int) -> ed2lm.Setting:
    """Return how a T5 reranks: a new one has two tokens more than its tokenizer, for true and false."""
    verdict = (vocabulary, vocabulary + 1)
    if source := study.pretrained.get(rung):
        verdict = pretrained.verdict_ids(rung, source)
    return ed2lm.Setting(*verdict, study.text.document_tokens + 1, study.ed2lm.poolings)


def hidden_size(model: Model) -> int:
    """Return the width of a model's states, which learning rates follow."""
    return model.t5.config.d_model if isinstance(model, Ed2lm) else model.encoder.config.hidden_size


def count(study: Study, family: Family, rung: str, vocabulary: int) -> Parameters:
    """Return a rung's counts from its configuration alone: no weights are read or made."""
    return parameters(empty(study, family, rung, config(study, family, rung, vocabulary)))


def pair_flops(model: Model, query: float, document: float) -> float:
    """Return the FLOPs of one forward pass over a query and a document of so many tokens, without special ones."""
    if isinstance(model, Ed2lm):
        return full_flops(model.t5.config, Work(query, document + 1))
    if isinstance(model, BiEncoder):
        return float(bi_encoder.flops(model).forward(np.array([query + 2, document + 2])).sum())
    return float(flops(model).forward(np.array([query + document + 3]))[0])


def check(study: Study) -> None:
    """Read every pretrained rung's weights once, so that what is missing stops the study before anything is trained.

    Weights that are not in the cache yet are downloaded into it.

    Raises:
        StudyError: a rung's weights cannot be read.
    """
    for rung, source in study.pretrained.items():
        for family in study.families:
            config(study, family, rung, vocabulary=0)
            (pretrained.read_t5 if family == "ed2lm" else pretrained.read_encoder)(rung, source)


def checkpoint_file(folder: Path, exposure: int) -> Path:
    """Where the model of a run after `exposure` training pairs lies."""
    return folder / f"exposure-{exposure:09d}"


def save(model: Model, path: Path, tokens: Path, weights: dict[str, Tensor] | None = None) -> None:
    """Write a checkpoint, whole or not at all, that its users' own tools load (see `layout`).

    `tokens` is the folder that holds the study's tokenizer; `weights`, the whole model's, are given when the model
    itself holds only its part of them.
    """
    with whole_folder(path) as temporary:
        layout.write(model, model.state_dict() if weights is None else weights, temporary, tokens)


def load(model: Model, path: Path) -> Model:
    """Read a checkpoint's weights into a model of the same shape, and return it.

    Raises:
        StudyError: the checkpoint is damaged or gone.
    """
    try:
        layout.read_into(model, path)
    except (OSError, SafetensorError) as error:
        raise StudyError(
            f"checkpoint {path} is damaged or gone: delete {path.parent / 'ledger.json'} and run the study again, "
            "which trains that run anew and nothing else."
        ) from error
    return model
