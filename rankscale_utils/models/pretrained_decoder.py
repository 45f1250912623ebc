"""What Hugging Face ids and local folders bring of decoders: a language model, or a classifier on one."""

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from rankscale_utils.errors import StudyError
from rankscale_utils.study.decoder import DecoderSettings

from .classifier import is_classifier
from .pretrained import for_scores, read_classifier, read_tokenizer, read_wrapped, refuse_missing
from .source import reading


def for_decoder(field: str, source: str, config: PretrainedConfig, settings: DecoderSettings) -> PretrainedConfig:
    """Return a decoder's configuration, which says how it scores and what it pads with.

    Raises:
        StudyError: it has no head for scores, or another one than is asked for; or a word is no single token.
    """
    tokenizer, special, _ = read_tokenizer(field, source, settings.prompt)
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.token_to_id(special["pad_token"])
    config.prompt = settings.prompt
    if not settings.verdict:
        if config.model_type not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
            raise StudyError(
                f"{field} = {source!r}: transformers has no {config.model_type} with a head for scores: set "
                "decoder.score: yes_no."
            )
        return for_scores(field, source, config)
    if is_classifier(config):
        raise StudyError(f"{field} = {source!r}: it has a head for scores and says no words: set decoder.score: head.")
    plain = read_wrapped(field, source)  # in no prompt
    pieces = [plain.encode(word, add_special_tokens=False) for word in settings.verdict]
    for word, ids in zip(settings.verdict, pieces, strict=True):
        if len(ids) != 1:
            raise StudyError(
                f"decoder.words: the tokenizer of {field} = {source!r} makes {len(ids)} tokens of {word!r}: choose "
                "words of one token each; a blank before a word may be one."
            )
    config.verdict = [ids[0] for ids in pieces]
    return config


def read_decoder(field: str, source: str, config: PretrainedConfig) -> PreTrainedModel:
    """Return the language model, or the classifier with one label, of an id or folder, in float32, as `for_decoder` has
    its configuration.

    Raises:
        StudyError: the weights are missing, gated or out of reach, or are those of another kind of model.
    """
    if not getattr(config, "verdict", None):
        return read_classifier(field, source, config)
    with reading(field, source, "weights"):
        model, found = AutoModelForCausalLM.from_pretrained(
            source, config=config, dtype=torch.float32, output_loading_info=True
        )
    refuse_missing(field, source, f"{config.model_type} language model", found["missing_keys"])
    return model
