"""A checkpoint's files, laid out such that the tools of its users load it and score alike.

An ED2LM is a folder of transformers, which `AutoModelForSeq2SeqLM` reads; its configuration says how it reranks. A
cross-encoder with its family's own head is one that `AutoModelForSequenceClassification` reads. The others are modules
of sentence-transformers in a row: the encoder, the pooling, and a linear layer, which writes a cross-encoder's raw
scores, or the layers that make a bi-encoder's embeddings.

`SentenceTransformer(path)` needs nothing else: `encode_query` and `encode_document` cut as the study did.
`sentence_transformers.CrossEncoder(path)` asks for `trust_remote_code=True` where the study has `query_tokens`, as no
setting of a tokenizer cuts a query apart from its document, and `pair_reader.py` does; and where the query's mean is
read, which `query_mean.py` pools.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, load_model, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoConfig

from rankscale_utils.machine.files import read_json, write_json

from .bi_encoder import BiEncoder
from .classifier import TransformersHead, is_classifier
from .cross_encoder import CrossEncoder
from .decoder import VerdictHead, new_reranker
from .ed2lm import Ed2lm, Setting, build_ed2lm, share_rows
from .model_card import Cut, model_card
from .own_layers import layers_of, linear_of, read_own_layers
from .pair_layout import PairLayout
from .pretrained import bare_encoder, without_pooler

Model = CrossEncoder | BiEncoder | Ed2lm
TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"
POOLING = "sentence_transformers.sentence_transformer.modules.pooling.Pooling"
DENSE = "sentence_transformers.base.modules.dense.Dense"
NORMALIZE = "sentence_transformers.base.modules.normalize.Normalize"
LOGIT = "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"
IDENTITY = "torch.nn.modules.linear.Identity"


def empty_model_of(folder: Path) -> Model:
    """Return a model of the shape that a checkpoint's configuration names.

    Raises:
        ValueError, KeyError, OSError: the folder is none that `write_layout` filled.
    """
    config = AutoConfig.from_pretrained(folder)
    if noted := getattr(config, "ed2lm", None):
        return build_ed2lm(config, Setting(**noted | {"poolings": tuple(noted["poolings"])}))
    if getattr(config, "verdict", None) or (is_classifier(config) and len(read_json(folder / "modules.json")) == 1):
        return new_reranker(config)
    _, pooling, *_ = (module["type"] for module in read_json(folder / "modules.json"))
    encoder = bare_encoder(config)
    if "document_length" in read_json(folder / "sentence_bert_config.json"):
        own = read_own_layers("checkpoint", str(folder), config, weights=False)
        return BiEncoder(encoder, own.dimensions, own.pooling, own.projection)
    if read_json(folder / "2_Dense" / "config.json").get("module_output_name") != "scores":
        raise ValueError("its last module is another's")
    return CrossEncoder(encoder, "query" if pooling == "query_mean.QueryMean" else _pooled(folder))


def _pooled(folder: Path) -> str:
    return read_json(folder / "1_Pooling" / "config.json")["pooling_mode"]


def write_layout(model: Model, weights: dict[str, Tensor], folder: Path, tokens: Path) -> None:
    """Fill an empty folder with a model, its weights by name, its tokenizer, which `tokens` holds, and a model card."""
    written = read_json(tokens / "tokenizer_config.json")
    layout = PairLayout.of(Tokenizer.from_file(str(tokens / "tokenizer.json")))
    lengths = written["pair_tokens"], written["query_tokens"]
    cut = Cut(*lengths, *layout.apart(*lengths))
    (folder / "README.md").write_text(model_card(model, cut), "utf-8")
    _write_tokenizer(model, folder, tokens, written)
    if isinstance(model, Ed2lm):
        model.t5.config.save_pretrained(folder)
        _write_weights({name.removeprefix("t5."): tensor for name, tensor in weights.items()}, folder)
        return
    model.encoder.config.save_pretrained(folder)
    _write_modules(model, folder, cut, written.get("prompts", ("", "")))
    if isinstance(model, CrossEncoder) and isinstance(model.head, TransformersHead):
        _write_weights({model.head.file_name(name): tensor for name, tensor in weights.items()}, folder)
        return
    _write_weights(_of(weights, "encoder."), folder)
    for name, prefix, _ in _linears(model):
        linear = {f"linear.{part}": tensor for part, tensor in _of(weights, prefix).items()}
        _write_weights(linear, folder / name)


def read_layout(model: Model, folder: Path) -> None:
    """Give a model the weights that `write_layout` wrote of such a model."""
    if isinstance(model, Ed2lm):
        with safe_open(folder / "model.safetensors", "pt") as stored:
            names = stored.keys()
        share_rows(model, "lm_head.weight" not in names)
        load_model(model.t5, folder / "model.safetensors")
        return
    if isinstance(model, CrossEncoder) and isinstance(model.head, TransformersHead):
        stored = load_file(folder / "model.safetensors")
        model.load_state_dict({name: stored[model.head.file_name(name)] for name in model.state_dict()})
        return
    load_model(model.encoder, folder / "model.safetensors")
    for name, _, linear in _linears(model):
        linear.load_state_dict(_of(load_file(folder / name / "model.safetensors"), "linear."))


def _linears(model: CrossEncoder | BiEncoder) -> list[tuple[str, str, nn.Linear]]:
    """Return the linear layers behind the pooling: folder, what their tensors' names begin with in the model, layer."""
    if isinstance(model, CrossEncoder):
        return [("2_Dense", "head.", model.head)]
    layers = enumerate(layers_of(model.projection), start=2)
    return [(f"{place}_Dense", prefix, linear) for place, (prefix, layer) in layers if (linear := linear_of(layer))]


def _write_modules(model: CrossEncoder | BiEncoder, folder: Path, cut: Cut, prompts: Sequence[str]) -> None:
    """Write what sentence-transformers reads: its modules with their configurations, and code that they need."""
    modules = _modules(model, cut)
    for name, (kind, config) in modules.items():
        (folder / name).mkdir(exist_ok=True)
        write_json(folder / name / ("config.json" if name else "sentence_bert_config.json"), config)
        if not kind.startswith("sentence_transformers."):
            code = f"{kind.split('.')[0]}.py"
            shutil.copyfile(Path(__file__).with_name(code), folder / code)
    listed = [{"idx": i, "name": str(i), "path": name, "type": modules[name][0]} for i, name in enumerate(modules)]
    write_json(folder / "modules.json", listed)
    raw = {"model_type": "CrossEncoder", "activation_fn": IDENTITY}
    apart = {"model_type": "SentenceTransformer", "similarity_fn_name": "dot"}
    apart["prompts"] = dict(zip(("query", "document"), prompts, strict=True))
    write_json(folder / "config_sentence_transformers.json", raw if isinstance(model, CrossEncoder) else apart)


def _modules(model: CrossEncoder | BiEncoder, cut: Cut) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the modules by folder: type and configuration; '' is the checkpoint's own folder."""
    states = {"method": "forward", "method_output_name": "last_hidden_state"}
    encoder = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": states},
        "module_output_name": "token_embeddings",
        "model_kwargs": without_pooler(model.encoder.config),
    }
    pooling = {"embedding_dimension": model.encoder.config.hidden_size}
    if isinstance(model, BiEncoder):
        return {
            "": (TRANSFORMER, encoder | {"query_length": cut.query_apart, "document_length": cut.document_apart}),
            "1_Pooling": (POOLING, pooling | {"pooling_mode": model.pooling}),
            **dict(_behind_pooling(model)),
        }
    own_reader = bool(cut.query_tokens) or model.reads == "query"
    reader, cuts = ("pair_reader.PairReader", {"query_tokens": cut.query_tokens}) if own_reader else (TRANSFORMER, {})
    if isinstance(model.head, VerdictHead):
        logits = {
            "transformer_task": "text-generation",
            "modality_config": {"text": states | {"method_output_name": "logits"}},
            "module_output_name": "causal_logits",
        }
        relevant, other = model.head.verdict
        words = {"true_token_id": relevant, "false_token_id": other}
        return {"": (reader, logits | cuts), "1_LogitScore": (LOGIT, words)}
    if isinstance(model.head, TransformersHead):
        scores = {
            "transformer_task": "sequence-classification",
            "modality_config": {"text": states | {"method_output_name": "logits"}},
            "module_output_name": "scores",
        }
        return {"": (reader, scores | cuts)}
    query_mean, first = ("query_mean.QueryMean", {}), (POOLING, pooling | {"pooling_mode": model.reads})
    return {
        "": (reader, encoder | cuts),
        "1_Pooling": query_mean if model.reads == "query" else first,
        "2_Dense": (DENSE, _dense(model.head, "scores")),
    }


def _behind_pooling(model: BiEncoder) -> Iterator[tuple[str, tuple[str, dict[str, Any]]]]:
    """Yield the modules that make embeddings of what is pooled, by folder."""
    for place, (_, layer) in enumerate(layers_of(model.projection), start=2):
        if linear := linear_of(layer):
            activation = IDENTITY if layer is linear else _full_name(layer[1])
            yield f"{place}_Dense", (DENSE, _dense(linear, "sentence_embedding", activation))
        else:
            yield f"{place}_Normalize", (NORMALIZE, {})


def _full_name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__name__}"


def _dense(linear: nn.Linear, name: str, activation: str = IDENTITY) -> dict[str, Any]:
    features = {"in_features": linear.in_features, "out_features": linear.out_features}
    bias = {} if linear.bias is not None else {"bias": False}
    return features | bias | {"activation_function": activation, "module_output_name": name}


def _of(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names have a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _write_weights(weights: dict[str, Tensor], folder: Path) -> None:
    chosen, known = {}, set()
    for name, tensor in weights.items():
        if (place := tensor.data_ptr()) not in known:  # tied tensors are written once
            known.add(place)
            chosen[name] = tensor.contiguous()
    path = folder / "model.safetensors"
    save_file(chosen, path, {"format": "pt"})
    path.chmod(0o644)  # safetensors makes files that only their owner may read


def _write_tokenizer(model: Model, folder: Path, tokens: Path, fields: dict[str, Any]) -> None:
    unread = set() if getattr(model, "reads_segments", False) else {"token_type_ids"}
    inputs = [name for name in fields["model_input_names"] if name not in unread]
    write_json(folder / "tokenizer_config.json", fields | {"model_input_names": inputs})
    shutil.copyfile(tokens / "tokenizer.json", folder / "tokenizer.json")  # a link would let one edit change them all
