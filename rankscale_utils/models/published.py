"""Finished models as they were published: rerankers with one score, and bi-encoders of sentence-transformers.

Both keep everything of their own: tokenizer, longest text, prompts, pooling, and the layers behind it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoTokenizer, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils import cached_file

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import read_json
from rankscale_utils.study.decoder import DecoderSettings
from rankscale_utils.study.objectives import Family
from rankscale_utils.study.study import Study

from .bi_encoder import BiEncoder
from .checks import refuse_other_scores, refuse_padded
from .classifier import is_classifier
from .cross_encoder import CrossEncoder
from .decoder import reranker_of
from .pair_layout import PairLayout
from .pretrained import (
    for_scores,
    is_decoder,
    most_tokens,
    read_classifier,
    read_config,
    read_encoder,
    read_tokenizer,
    reading,
)
from .pretrained_decoder import for_decoder, read_decoder

POOLINGS: dict[str, Literal["cls", "mean"]] = {"cls": "cls", "cls_token": "cls", "mean": "mean", "mean_tokens": "mean"}
ACTIVATIONS = {kind.__name__: kind for kind in (nn.Identity, nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU)}
KNOWN_MODULES = {"Transformer", "Pooling", "Dense", "Normalize"}
QUERY_PROMPTS, DOCUMENT_PROMPTS = ("query",), ("document", "passage", "corpus")  # sentence-transformers' own names


@dataclass(frozen=True)
class Published:
    """A finished model, and what it makes of texts before it reads them.

    special: special tokens by role; segments: whether it is told which tokens are the document's; pair_tokens: the most
    that it reads of a pair, special tokens included, and apart: of a query and of a document alone; prompts: what
    stands before every query and before every document; lower: whether texts are written in small letters first.
    """

    model: CrossEncoder | BiEncoder
    tokenizer: Tokenizer
    special: dict[str, str]
    segments: bool
    pair_tokens: int
    apart: tuple[int, int]
    prompts: tuple[str, str] = ("", "")
    lower: bool = False

    @property
    def family(self) -> Family:
        """How it reads."""
        return "cross_encoder" if isinstance(self.model, CrossEncoder) else "bi_encoder"


def check_systems(study: Study) -> None:
    """Read every system once, so that one that cannot work stops the study before anything is trained.

    Raises:
        StudyError: one cannot be measured as it is.
    """
    for name in study.systems:
        read_system(study, name)


def read_system(study: Study, name: str) -> Published:
    """Return a study's system, ready to score.

    Raises:
        StudyError: it cannot be measured as it is.
    """
    system = study.systems[name]
    source = study.source_of(system.pretrained)
    return read_published(f"systems.{name}", source, system.pair_tokens, system.decoder)


def read_published(
    field: str, source: str, pair_tokens: int | None = None, decoder: DecoderSettings | None = None
) -> Published:
    """Return the finished model of an id or folder in float32; without `pair_tokens` it reads as much as it can.

    decoder: how it scores where it is a decoder; None: by its own head or words, in its tokenizer's layout of pairs.

    Raises:
        StudyError: it is neither kind of model, needs what is not known here, or cannot be read.
    """
    config = read_config(field, source)
    modules = [(one["type"].rpartition(".")[2], one["path"]) for one in _json_of(source, "modules.json") or ()]
    if is_decoder(config):
        return _read_decoder(field, source, config, pair_tokens, decoder)
    if decoder:
        raise StudyError(f"{field}.decoder: {source!r} is a {config.model_type} model, no decoder: remove it.")
    if config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES or config.is_encoder_decoder:
        raise StudyError(f"{field} = {source!r} is a {config.model_type} model: a system is an encoder or decoder.")
    if not is_classifier(config) and "Pooling" not in dict(modules):
        raise StudyError(
            f"{field} = {source!r} has neither a head for scores nor, in modules.json, a pooling: it is no finished "
            "reranker or bi-encoder; train it as a rung of the ladder, or name one that is finished."
        )
    tokenizer, special, segments = read_tokenizer(field, source)
    settings = _json_of(source, "sentence_bert_config.json") or {}
    longest, lower = longest_read(field, source, config, pair_tokens), bool(settings.get("do_lower_case"))
    if is_classifier(config):
        model = _read_reranker(field, source, config)
        return Published(model, tokenizer, special, segments, longest, (longest, longest), lower=lower)
    apart = tuple(min(settings.get(f"{kind}_length") or longest, longest) for kind in ("query", "document"))
    model = _read_bi_encoder(field, source, config, modules)
    return Published(model, tokenizer, special, False, longest, apart, _prompts(source), lower)


def _read_decoder(
    field: str, source: str, config: PretrainedConfig, pair_tokens: int | None, settings: DecoderSettings | None
) -> Published:
    says_words = settings.verdict if settings else getattr(config, "verdict", None)
    if not is_classifier(config) and not says_words:
        raise StudyError(
            f"{field} = {source!r} has no head for scores: set {field}.decoder.score: yes_no, whose words its language "
            "model was trained to say, or name a reranker that is finished."
        )
    layout = read_tokenizer(field, source, settings.prompt if settings else "")
    longest = longest_read(field, source, config, pair_tokens)
    if longest < (wanted := PairLayout.of(layout[0]).special + 2):
        raise StudyError(
            f"{field}.pair_tokens = {longest}: its prompt and a word of both texts take {wanted}: raise it."
        )
    if settings:
        config = for_decoder(field, source, config, settings)
    elif not says_words:
        config = for_scores(field, source, config)
    refuse_other_scores(field, source, read_decoder(field, source, config))  # which is used up
    model = reranker_of(read_decoder(field, source, config)).eval()
    return Published(model, *layout, longest, (longest, longest))


def _read_reranker(field: str, source: str, config: PretrainedConfig) -> CrossEncoder:
    config = for_scores(field, source, config)
    refuse_other_scores(field, source, read_classifier(field, source, config))  # which is used up
    return CrossEncoder.of(read_classifier(field, source, config)).eval()


def longest_read(field: str, source: str, config: PretrainedConfig, wanted: int | None = None) -> int:
    """Return the most tokens that are read, as sentence-transformers finds it, or fewer where fewer are wanted.

    Raises:
        StudyError: more are wanted than can be read, or there is no tokenizer.
    """
    settings = _json_of(source, "sentence_bert_config.json") or {}
    with reading(field, source, "tokenizer"):
        of_tokenizer = AutoTokenizer.from_pretrained(source).model_max_length
    own = min(settings.get("max_seq_length") or of_tokenizer, most_tokens(config))
    if wanted is not None and wanted > own:
        raise StudyError(f"{field}.pair_tokens = {wanted}: {source!r} reads {own} tokens at most: lower it.")
    return wanted or own


def _read_bi_encoder(field: str, source: str, config: PretrainedConfig, modules: list[tuple[str, str]]) -> BiEncoder:
    """Return encoder, pooling and what follows, as modules.json lists them."""
    kinds = [kind for kind, _ in modules]
    if set(kinds) - KNOWN_MODULES or modules[0] != ("Transformer", "") or kinds[1] != "Pooling":
        raise StudyError(
            f"{field} = {source!r}: its modules.json lists {', '.join(kinds)}: known here are a Transformer in the "
            "folder itself, a Pooling, and then Dense and Normalize."
        )
    encoder = read_encoder(field, source, config)
    refuse_padded(field, source, encoder)
    pooling = _pooling(field, source, _json_of(source, f"{modules[1][1]}/config.json"))
    layers = [_dense(field, source, path) if kind == "Dense" else UnitLength() for kind, path in modules[2:]]
    width = next((layer[0].out_features for layer in reversed(layers) if not isinstance(layer, UnitLength)), None)
    said = _json_of(source, "config_sentence_transformers.json") or {}
    similarity = said.get("similarity_fn_name") or "cosine"
    if similarity not in ("cosine", "dot"):
        raise StudyError(f"{field} = {source!r} compares by {similarity}: those known here are cosine and dot.")
    layers += [UnitLength()] * (similarity == "cosine")
    return BiEncoder(encoder, width or config.hidden_size, pooling, nn.Sequential(*layers)).eval()


class UnitLength(nn.Module):
    """Scales embeddings (texts, width) to length one."""

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return them so."""
        return nn.functional.normalize(embeddings, dim=-1)


def _pooling(field: str, source: str, said: dict[str, Any]) -> Literal["cls", "mean"]:
    """Return how a folder's states are pooled; several poolings stand beside one another in old and new files."""
    modes = said.get("pooling_mode") or [
        name.removeprefix("pooling_mode_") for name in said if name.startswith("pooling_mode_") and said[name]
    ]
    modes = [modes] if isinstance(modes, str) else modes
    if len(modes) != 1 or modes[0] not in POOLINGS or not said.get("include_prompt", True):
        but = "" if said.get("include_prompt", True) else ", its prompt left out"
        raise StudyError(
            f"{field} = {source!r} pools by {' and '.join(modes)}{but}: known here are the mean of all tokens and the "
            "first one (cls)."
        )
    return POOLINGS[modes[0]]


def _dense(field: str, source: str, path: str) -> nn.Sequential:
    said = _json_of(source, f"{path}/config.json")
    activation = said.get("activation_function", "Tanh").rpartition(".")[2]
    if activation not in ACTIVATIONS:
        raise StudyError(f"{field} = {source!r}: its layer {path} ends in {activation}, which is not known here.")
    linear = nn.Linear(said["in_features"], said["out_features"], said.get("bias", True))
    with reading(field, source, f"layer {path}"):
        if weights := _file_of(source, f"{path}/model.safetensors"):
            stored = load_file(weights)
        else:
            stored = torch.load(_file_of(source, f"{path}/pytorch_model.bin"), weights_only=True)
        linear.load_state_dict({name.removeprefix("linear."): tensor for name, tensor in stored.items()})
    return nn.Sequential(linear, ACTIVATIONS[activation]())


def _prompts(source: str) -> tuple[str, str]:
    """Return what sentence-transformers puts before a query and before a document."""
    said = (_json_of(source, "config_sentence_transformers.json") or {}).get("prompts") or {}
    return tuple(
        next((said[name] for name in names if said.get(name)), "") for names in (QUERY_PROMPTS, DOCUMENT_PROMPTS)
    )


def _file_of(source: str, name: str) -> Path | None:
    """Return a file of an id or folder, or None where it has none."""
    found = cached_file(
        source,
        name,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return Path(found) if found else None


def _json_of(source: str, name: str) -> Any:
    return read_json(path) if (path := _file_of(source, name)) else None
