"""The ladder: each rung's model, built from its shape or from pretrained weights, and its checkpoints on disk."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PretrainedConfig, PreTrainedModel, T5Config
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from rankscale_utils.errors import StudyError
from rankscale_utils.study.decoder import DecoderSettings
from rankscale_utils.study.objectives import Family
from rankscale_utils.study.study import Run, Study, run_seed

from .bi_encoder import BiEncoder, bi_encoder_flops, initialise_bi_encoder
from .classifier import is_classifier
from .counts import Parameters, counted_flops, encoder_flops, parameters, pass_flops
from .cross_encoder import CrossEncoder, initialise_cross_encoder
from .decoder import new_reranker, reranker_of
from .ed2lm import Ed2lm, Setting, build_ed2lm
from .ed2lm_counts import Work, full_flops, t5_encoder_flops
from .ed2lm_init import initialise_ed2lm
from .export import Model
from .own_layers import makes_embeddings, read_own_layers
from .pretrained import (
    T5S,
    bare_encoder,
    for_scores,
    is_decoder,
    most_tokens,
    read_classifier,
    read_config,
    read_encoder,
    read_t5,
    refuse_few_words,
    verdict_ids,
)
from .pretrained_decoder import for_decoder, read_decoder

NEEDED = {
    "cross_encoder": "an encoder, such as BERT, RoBERTa or DeBERTa, or a decoder, such as Qwen or Llama",
    "bi_encoder": "an encoder, such as BERT, RoBERTa or DeBERTa",
    "ed2lm": "a T5 (original, v1.1, flan, mT5 or uMT5)",
}
NEW_HEAD = 0.02  # standard deviation of a pretrained rung's linear head, transformers' usual initializer_range
VERDICT_WORDS = ("true", "false")  # what a new T5 can say beside its tokenizer's words


def rung_config(study: Study, family: Family, rung: str, vocabulary: int) -> PretrainedConfig:
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
        vocab_size=vocabulary + len(VERDICT_WORDS),
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
    found = read_config(f"ladder.{rung}", source, study.ladder[rung].layers)
    if not _reads(family, found):
        raise StudyError(f"ladder.{rung} = {source!r} is a {found.model_type} model: {family} needs {NEEDED[family]}.")
    unmet = {"training.lora": study.training and study.training.lora, "decoder": study.decoder != DecoderSettings()}
    for field in (field for field, given in unmet.items() if given and not is_decoder(found)):
        raise StudyError(
            f"{field}: ladder.{rung} = {source!r} is a {found.model_type} model, and this is of decoders, such as Qwen "
            "or Llama: remove it."
        )
    refuse_few_words(f"ladder.{rung}", source, found, vocabulary)
    if family == "ed2lm" and study.ladder[rung].layers:
        raise StudyError(f"ladder.{rung}.layers: an ed2lm is kept whole, as its decoder reads its encoder: remove it.")
    if family != "ed2lm" and (most := most_tokens(found)) < longest:
        raise StudyError(
            f"text.pair_tokens = {longest}: ladder.{rung} = {source!r} reads {most} tokens at most: lower pair_tokens."
        )
    if family != "cross_encoder":
        return found
    if reads := study.ladder[rung].reads:
        _refuse_head(f"ladder.{rung}", source, found, reads)
        return found
    if is_decoder(found):
        return for_decoder(f"ladder.{rung}", source, found, study.decoder)
    return for_scores(f"ladder.{rung}", source, found)


def _refuse_head(field: str, source: str, config: PretrainedConfig, reads: str) -> None:
    """Refuse a head that reads other states for a model that has its own, or none but the last state to read."""
    if is_decoder(config):
        raise StudyError(
            f"{field}.reads = {reads}: {source!r} is a decoder ({config.model_type}), whose last state alone has seen "
            "the whole pair: remove it."
        )
    if is_classifier(config):
        raise StudyError(
            f"{field}.reads = {reads}: {source!r} is a finished reranker, which keeps its own head: remove it, or save "
            "its encoder alone (AutoModel), which gets a new head."
        )


def _reads(family: Family, config: PretrainedConfig) -> bool:
    """Say whether models of a family may be built on a configuration's."""
    if family == "ed2lm":
        return config.model_type in T5S
    encoder = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not config.is_encoder_decoder
    return encoder or (family == "cross_encoder" and is_decoder(config))


def build_model(study: Study, run: Run, vocabulary: int, shares: Callable[[], np.ndarray] | None = None) -> Model:
    """Return a run's model at its start, all that is random drawn from the run's own seed.

    A rung given as a shape is initialised as its family's `initialise` says. A pretrained rung keeps its weights, a
    finished reranker's head among them; what is new on top starts random: a cross-encoder's head, as transformers has
    it for the architecture, and a bi-encoder's projection where its folder brings none.
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
        return initialise_cross_encoder(model, prior=1 / study.training.groups.size)
    if not shares:
        return model
    words = torch.from_numpy(shares())
    if family == "bi_encoder":
        return initialise_bi_encoder(model, words)
    return initialise_ed2lm(model, torch.cat([words, words.new_ones(len(VERDICT_WORDS))]))


def _new(study: Study, family: Family, rung: str, vocabulary: int) -> Model:
    """Return a run's model before anything is initialised but what is pretrained."""
    source, settings = study.pretrained.get(rung), rung_config(study, family, rung, vocabulary)
    if family == "ed2lm":
        setting = _setting(study, rung, vocabulary)
        return Ed2lm(read_t5(f"ladder.{rung}", source), setting) if source else build_ed2lm(settings, setting)
    reads = study.ladder[rung].reads if source else None
    if source and family == "cross_encoder" and not reads:
        read = read_decoder if is_decoder(settings) else read_classifier
        return reranker_of(read(f"ladder.{rung}", source, settings))
    encoder = read_encoder(f"ladder.{rung}", source, settings) if source else bare_encoder(settings)
    if family == "bi_encoder":
        return bi_encoder_on(study, rung, encoder)
    model = CrossEncoder(encoder, reads or "query")
    if reads:  # at zero a head would hide the pretrained states from their first gradients
        nn.init.normal_(model.head.weight, std=NEW_HEAD)
    return model


def random_cross_encoder(study: Study, rung: str, settings: PretrainedConfig) -> CrossEncoder:
    """Return a rung's cross-encoder of this configuration before any weights are read."""
    if rung not in study.pretrained:
        return CrossEncoder(bare_encoder(settings))
    reads = study.ladder[rung].reads
    return CrossEncoder(bare_encoder(settings), reads) if reads else new_reranker(settings)


def bi_encoder_on(study: Study, rung: str, encoder: PreTrainedModel, weights: bool = True) -> BiEncoder:
    """Return a rung's bi-encoder on this encoder: with the layers that its folder brings, or with a new projection
    where there are none, or where the study asks for dimensions.

    Raises:
        StudyError: the folder's layers are not known here, or cannot be read.
    """
    source, asked = study.pretrained.get(rung), study.bi_encoder
    if not source or asked.dimensions or not makes_embeddings(source):
        return BiEncoder(encoder, **asked.of_new_layers)
    own = read_own_layers(f"ladder.{rung}", source, encoder.config, weights)
    return BiEncoder(encoder, own.dimensions, asked.pooling or own.pooling, own.projection)


def empty_model(study: Study, family: Family, rung: str, settings: PretrainedConfig) -> Model:
    """Return a model of this configuration that has shapes and no weights."""
    with torch.device("meta"):
        if family == "ed2lm":
            return Ed2lm(AutoModelForSeq2SeqLM.from_config(settings), Setting(0, 1, study.text.document_tokens + 1))
        if family == "bi_encoder":
            return bi_encoder_on(study, rung, bare_encoder(settings), weights=False)
        return random_cross_encoder(study, rung, settings)


def _setting(study: Study, rung: str, vocabulary: int) -> Setting:
    """Return how a T5 reranks: a new one has two tokens more than its tokenizer, for true and false."""
    verdict = (vocabulary, vocabulary + 1)
    if source := study.pretrained.get(rung):
        verdict = verdict_ids(f"ladder.{rung}", source)
    return Setting(*verdict, study.text.document_tokens + 1, study.ed2lm.poolings)


def hidden_size(model: Model) -> int:
    """Return the width of a model's states, which learning rates follow."""
    return model.t5.config.d_model if isinstance(model, Ed2lm) else model.encoder.config.hidden_size


def count_rung(study: Study, family: Family, rung: str, vocabulary: int) -> Parameters:
    """Return a rung's counts from its configuration alone: no weights are read or made."""
    return parameters(empty_model(study, family, rung, rung_config(study, family, rung, vocabulary)))


def pair_flops(model: Model, query: float, document: float) -> float:
    """Return the FLOPs of one forward pass over a query and a document of so many tokens, without special ones."""
    if isinstance(model, Ed2lm):
        return full_flops(model.t5.config, Work(query, document + 1))
    if isinstance(model, BiEncoder):
        return float(bi_encoder_flops(model).forward(np.array([query + 2, document + 2])).sum())
    return float(pass_flops(model).forward(np.array([query + document + 3]))[0])


def counted_share(model: Model, length: int) -> float:
    """Return a model's FLOPs over those that torch counts in a pass of its encoder over two texts of this length."""
    if isinstance(model, Ed2lm):
        return 2 * t5_encoder_flops(model.t5.config, length) / counted_flops(model.t5.encoder, 2, length)
    return encoder_flops(model.encoder).padded(2, length) / counted_flops(model.encoder, 2, length)
