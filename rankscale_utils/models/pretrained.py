"""What Hugging Face ids and local folders bring: configuration, tokenizer and weights, or one sentence why not."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    T5ForConditionalGeneration,
)
from transformers.utils import logging

from rankscale_utils.errors import StudyError

T5S = ("t5", "mt5", "umt5")  # kinds of T5, whose encoder is half of the model


def read_config(rung: str, source: str) -> PretrainedConfig:
    """Return the configuration of an id or folder.

    Raises:
        StudyError: there is none, or it cannot be reached.
    """
    with _reading(rung, source, "configuration"):
        return AutoConfig.from_pretrained(source)


def read_encoder(rung: str, source: str) -> PreTrainedModel:
    """Return the encoder of an id or folder with its pretrained weights, in float32 and without BERT's unused pooler.

    Raises:
        StudyError: the weights are missing, gated or out of reach, or are those of another kind of model.
    """
    config = read_config(rung, source)
    with _reading(rung, source, "weights"):
        encoder, found = AutoModel.from_pretrained(
            source, config=config, dtype=torch.float32, output_loading_info=True, **without_pooler(config)
        )
    if missing := found["missing_keys"]:
        raise StudyError(
            f"ladder.{rung} = {source!r}: its weights lack {len(missing)} tensors of a {config.model_type} encoder, "
            f"{min(missing)} among them: name a model that was trained."
        )
    return encoder


def read_t5(rung: str, source: str) -> T5ForConditionalGeneration:
    """Return the encoder-decoder of an id or folder with its pretrained weights, in float32.

    Raises:
        StudyError: the weights are missing, gated or out of reach, or are those of another kind of model.
    """
    with _reading(rung, source, "weights"):
        t5, found = T5ForConditionalGeneration.from_pretrained(source, dtype=torch.float32, output_loading_info=True)
    if missing := found["missing_keys"]:
        raise StudyError(
            f"ladder.{rung} = {source!r}: its weights lack {len(missing)} tensors of a T5, {min(missing)} among them: "
            "name a model that was trained."
        )
    return t5


def verdict_ids(rung: str, source: str) -> tuple[int, int]:
    """Return the ids of the words true and false, with which monoT5 and ED2LM say whether a document is relevant.

    Raises:
        StudyError: the tokenizer has no piece for one of them.
    """
    tokenizer, _ = read_tokenizer(rung, source)
    pieces = [tokenizer.encode(word, add_special_tokens=False).ids for word in ("true", "false")]
    if any(len(ids) != 1 for ids in pieces):
        raise StudyError(
            f"ladder.{rung} = {source!r}: its tokenizer cuts the words true and false into pieces: use a T5's own."
        )
    return pieces[0][0], pieces[1][0]


def read_tokenizer(rung: str, source: str) -> tuple[Tokenizer, dict[str, str]]:
    """Return the tokenizer of an id or folder, neither truncating nor padding, and its special tokens by role.

    A T5's has no [CLS] and ends its texts with </s>, which is then `sep_token`.

    Raises:
        StudyError: there is none, it cannot be reached, or it does not build pairs as [CLS] query [SEP] document [SEP].
    """
    with _reading(rung, source, "tokenizer"):
        wrapped = AutoTokenizer.from_pretrained(source)
    tokenizer = wrapped.backend_tokenizer
    tokenizer.no_truncation()  # many published files cut and pad what they read
    tokenizer.no_padding()
    named = {name: str(token) for name, token in wrapped.special_tokens_map.items() if name.endswith("_token")}
    if wrapped.cls_token_id is None and tokenizer.encode("").ids == [wrapped.eos_token_id]:
        return tokenizer, named | {"sep_token": named["eos_token"]}
    cls, sep = wrapped.cls_token_id, wrapped.sep_token_id
    if None in (cls, sep, wrapped.pad_token_id) or tokenizer.encode("", "").ids != [cls, sep, sep]:
        raise StudyError(
            f"ladder.{rung} = {source!r}: its tokenizer does not build pairs as [CLS] query [SEP] document [SEP]: use "
            "an encoder of the BERT or ModernBERT family, or for ed2lm one of T5's."
        )
    return tokenizer, named


def bare_encoder(config: PretrainedConfig) -> PreTrainedModel:
    """Return a new encoder of this configuration, T5's own of an encoder-decoder."""
    kind = AutoModelForTextEncoding if config.model_type in T5S else AutoModel
    return kind.from_config(config, **without_pooler(config))


def without_pooler(config: PretrainedConfig) -> dict[str, bool]:
    """Return the argument that builds a BERT without the pooler that no score reads."""
    return {"add_pooling_layer": False} if config.model_type == "bert" else {}


@contextmanager
def _reading(rung: str, source: str, what: str) -> Iterator[None]:
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # tensors that are not used are no news, and those that lack are refused
    logging.disable_progress_bar()  # it would stay in the page that a notebook becomes
    try:
        yield
    except Exception as error:  # of many kinds: OSError (missing, gated, offline), ValueError, SafetensorError, …
        reason = str(error).strip().split("\n")[0].rstrip(".:")
        raise StudyError(
            f"ladder.{rung} = {source!r}: its {what} cannot be read ({reason}): name a local folder that holds the "
            "model, or point HF_HOME at a cache that does (with HF_HUB_OFFLINE=1 where there is no network); a gated "
            "model needs HF_TOKEN."
        ) from error
    finally:
        logging.set_verbosity(verbosity)
