"""What Hugging Face ids and local folders bring: configuration, tokenizer and weights, or one sentence why not.

`field` is the study's field that names them, such as ladder.small, for messages.
"""

from collections.abc import Collection
from inspect import signature

import torch
from tokenizers import Tokenizer, normalizers
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.models.auto.tokenization_auto import (
    MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS,
    TOKENIZER_MAPPING_NAMES,
)

from rankscale_utils.errors import StudyError

from .classifier import READS, is_classifier
from .flat_encoders import first_position
from .pair_layout import PairLayout
from .prompt import lay_out
from .source import of_transformer, reading

REBUILT = {  # kinds whose tokenizers AutoTokenizer builds as it knows them, whatever their file says
    kind
    for kind in MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS
    if TOKENIZER_MAPPING_NAMES.get(kind) not in ("TokenizersBackend", None)
}
T5S = ("t5", "mt5", "umt5")  # kinds of T5, whose encoder is half of the model


def read_config(field: str, source: str, layers: int | None = None) -> PretrainedConfig:
    """Return the configuration of an id or folder, of its first `layers` alone where they are given.

    Raises:
        StudyError: there is none, it cannot be reached, or it has fewer layers.
    """
    with reading(field, source, "configuration"):
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    if layers is None:
        return config
    if layers > config.num_hidden_layers:
        raise StudyError(
            f"{field}.layers = {layers}: {source!r} has {config.num_hidden_layers} layers: keep as many or fewer."
        )
    if kinds := getattr(config, "layer_types", None):
        config.layer_types = kinds[:layers]
    config.num_hidden_layers = layers
    return config


def is_decoder(config: PretrainedConfig) -> bool:
    """Say whether a configuration is of a decoder alone, such as Qwen's or Llama's."""
    kind = config.model_type
    of_encoders = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES or config.is_encoder_decoder
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not of_encoders


def for_scores(field: str, source: str, config: PretrainedConfig) -> PretrainedConfig:
    """Return the configuration of a classifier with one label, which a finished reranker has already.

    Raises:
        StudyError: its own head has another number of labels, or scores every token.
    """
    finished = is_classifier(config)
    if finished and config.num_labels != 1:
        raise StudyError(
            f"{field} = {source!r}: its head has {config.num_labels} labels, and a reranker gives one score: "
            "name a model with one label, or save its encoder alone (AutoModel), which gets a new head."
        )
    if getattr(config, "classifier_pooling", "cls") not in READS:
        if finished:
            raise StudyError(
                f"{field} = {source!r}: its head scores every token (classifier_pooling: "
                f"{config.classifier_pooling}): name one that reads the first state or the mean."
            )
        config.classifier_pooling = "bos"  # EuroBERT's name for the first
    config.num_labels = 1
    return config


def most_tokens(config: PretrainedConfig) -> int:
    """Return how many tokens an encoder has positions for, which RoBERTa's begin to count behind its padding's."""
    with torch.device("meta"):
        encoder = bare_encoder(config)
    return config.max_position_embeddings - first_position(encoder)


def read_encoder(field: str, source: str, config: PretrainedConfig) -> PreTrainedModel:
    """Return an encoder with the pretrained weights of an id or folder, in float32 and without a pooler.

    Raises:
        StudyError: the weights are missing, gated or out of reach, or are those of another kind of model.
    """
    with reading(field, source, "weights"):
        encoder, found = AutoModel.from_pretrained(
            source, config=config, dtype=torch.float32, output_loading_info=True, **without_pooler(config)
        )
    refuse_missing(field, source, f"{config.model_type} encoder", found["missing_keys"])
    return encoder


def read_classifier(field: str, source: str, config: PretrainedConfig) -> PreTrainedModel:
    """Return a classifier with one label and the pretrained weights of an id or folder, in float32.

    A finished reranker's head is its own; without one the head is new and random.

    Raises:
        StudyError: the weights are missing, gated or out of reach, or are those of another kind of model.
    """
    finished = is_classifier(config)
    with reading(field, source, "weights"):
        classifier, found = AutoModelForSequenceClassification.from_pretrained(
            source, config=config, dtype=torch.float32, output_loading_info=True
        )
    inside = f"{classifier.base_model_prefix}."
    of_head = {name for name in found["missing_keys"] if not name.startswith(inside) or "pooler" in name}
    refuse_missing(field, source, f"{config.model_type} encoder", set(found["missing_keys"]) - of_head)
    if finished:
        refuse_missing(field, source, "finished reranker", of_head)
    return classifier


def refuse_missing(field: str, source: str, kind: str, missing: Collection[str]) -> None:
    """Raise StudyError where weights lack tensors of a model of this kind."""
    if missing:
        raise StudyError(
            f"{field} = {source!r}: its weights lack {len(missing)} tensors of a {kind}, {min(missing)} among "
            "them: name a model that was trained."
        )


def read_t5(field: str, source: str) -> PreTrainedModel:
    """Return the encoder-decoder of an id or folder with its pretrained weights, in float32.

    Raises:
        StudyError: the weights are missing, gated or out of reach, or are those of another kind of model.
    """
    with reading(field, source, "weights"):
        t5, found = AutoModelForSeq2SeqLM.from_pretrained(source, dtype=torch.float32, output_loading_info=True)
    refuse_missing(field, source, "T5", found["missing_keys"])
    return t5


def verdict_ids(field: str, source: str) -> tuple[int, int]:
    """Return the ids of the words true and false, with which monoT5 and ED2LM say whether a document is relevant.

    Raises:
        StudyError: the tokenizer has no piece for one of them.
    """
    tokenizer, *_ = read_tokenizer(field, source)
    pieces = [tokenizer.encode(word, add_special_tokens=False).ids for word in ("true", "false")]
    if any(len(ids) != 1 for ids in pieces):
        raise StudyError(
            f"{field} = {source!r}: its tokenizer cuts the words true and false into pieces: use a T5's own."
        )
    return pieces[0][0], pieces[1][0]


def read_tokenizer(field: str, source: str, prompt: str = "") -> tuple[Tokenizer, dict[str, str], bool]:
    """Return the tokenizer of an id or folder, neither truncating nor padding, its special tokens by role, and whether
    it tells its model which tokens are the document's.

    A decoder's lays out pairs in the `prompt`, and pads with its end token where it has no pad token.

    Raises:
        StudyError: there is none, it cannot be reached, has no token for padding, or lays out no pairs.
    """
    wrapped = read_wrapped(field, source)
    tokenizer = getattr(wrapped, "backend_tokenizer", None)
    if tokenizer is None:
        raise StudyError(f"{field} = {source!r}: its tokenizer is none of the tokenizers library: name another.")
    tokenizer.no_truncation()  # many published files cut and pad what they read
    tokenizer.no_padding()
    config = read_config(field, source) if prompt else None
    of_decoder = config is not None and is_decoder(config)
    if of_decoder and wrapped.pad_token_id is None:
        wrapped.pad_token = wrapped.eos_token
    if wrapped.pad_token_id is None:
        raise StudyError(
            f"{field} = {source!r}: its tokenizer has no pad token: name one that its vocabulary has as "
            "pad_token in a local copy's tokenizer_config.json."
        )
    try:
        if of_decoder:
            lay_out(tokenizer, prompt, normalizes=config.model_type not in REBUILT)
        PairLayout.of(tokenizer)
    except ValueError as reason:
        raise StudyError(
            f"{field} = {source!r}: its tokenizer lays out pairs as no reranker here reads them ({reason}): name "
            "an encoder such as BERT, or for ed2lm a T5."
        ) from None
    if of_transformer(source).get("do_lower_case"):
        written = [tokenizer.normalizer] if tokenizer.normalizer else []
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *written])
    named = {name: str(token) for name, token in wrapped.special_tokens_map.items() if name.endswith("_token")}
    return tokenizer, named, "token_type_ids" in wrapped.model_input_names


def read_wrapped(field: str, source: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of an id or folder as transformers has it.

    Raises:
        StudyError: there is none, or it cannot be reached.
    """
    with reading(field, source, "tokenizer"):
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)


def refuse_few_words(field: str, source: str, config: PretrainedConfig, vocabulary: int) -> None:
    """Refuse a model with fewer embeddings than its tokenizer has tokens."""
    if config.vocab_size < vocabulary:
        raise StudyError(
            f"{field} = {source!r}: its tokenizer has {vocabulary} tokens and its model {config.vocab_size}: name a "
            "model that belongs to its tokenizer."
        )


def bare_encoder(config: PretrainedConfig) -> PreTrainedModel:
    """Return a new encoder of this configuration, T5's own of an encoder-decoder."""
    kind = AutoModelForTextEncoding if config.model_type in T5S else AutoModel
    return kind.from_config(config, **without_pooler(config))


def without_pooler(config: PretrainedConfig) -> dict[str, bool]:
    """Return the argument that builds an encoder without the pooler that no mean or first state reads."""
    known = MODEL_MAPPING.get(type(config), None)
    first = known[0] if isinstance(known, tuple) else known  # which AutoModel builds of several
    return {"add_pooling_layer": False} if first and "add_pooling_layer" in signature(first).parameters else {}
