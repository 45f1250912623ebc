"""A checkpoint's files, laid out such that `sentence_transformers.CrossEncoder(path)` loads and scores alike.

Three modules in a row: the encoder, the pooling, and a linear layer that writes raw scores. A model that reads [CLS]
needs nothing but sentence-transformers. One that reads the query's mean carries its own pooling as `query_mean.py`, so
it asks for `CrossEncoder(path, trust_remote_code=True)`.
"""

import os
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PretrainedConfig

from rankscale_utils import pretrained
from rankscale_utils.files import read_json, write_json
from rankscale_utils.models.cross_encoder import CrossEncoder

HEAD = Path("2_Dense") / "model.safetensors"
POOLINGS = {
    "cls": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "query": "query_mean.QueryMean",
}


def write(model: CrossEncoder, weights: dict[str, Tensor], folder: Path, tokens: Path) -> None:
    """Fill an empty folder with a model, its weights by name, and its tokenizer, which `tokens` holds."""
    hidden = model.encoder.config.hidden_size
    modules = [
        ("", "sentence_transformers.base.modules.transformer.Transformer"),
        ("1_Pooling", POOLINGS[model.reads]),
        ("2_Dense", "sentence_transformers.base.modules.dense.Dense"),
    ]
    for path, _ in modules[1:]:
        (folder / path).mkdir()
    listed = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(modules)]
    write_json(folder / "modules.json", listed)
    raw = {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.linear.Identity"}
    write_json(folder / "config_sentence_transformers.json", raw)
    _write_encoder(model.encoder.config, folder)
    _write_tokenizer(model, folder, tokens)
    if model.reads == "query":
        shutil.copy(Path(__file__).with_name("query_mean.py"), folder)
        write_json(folder / "1_Pooling" / "config.json", {"sep": _separator(tokens)})
    else:
        write_json(folder / "1_Pooling" / "config.json", {"embedding_dimension": hidden, "pooling_mode": "cls"})
    dense = {
        "in_features": hidden,
        "out_features": 1,
        "activation_function": "torch.nn.modules.linear.Identity",
        "module_output_name": "scores",
    }
    write_json(folder / "2_Dense" / "config.json", dense)
    _write_weights(weights, "encoder.", folder / "model.safetensors")
    _write_weights(weights, "head.", folder / HEAD, "linear.")


def read(folder: Path) -> dict[str, Tensor]:
    """Return the weights by name that `write` wrote."""
    encoder, head = load_file(folder / "model.safetensors"), load_file(folder / HEAD)
    named = {f"encoder.{name}": tensor for name, tensor in encoder.items()}
    return named | {name.replace("linear.", "head."): tensor for name, tensor in head.items()}


def _write_encoder(config: PretrainedConfig, folder: Path) -> None:
    config.save_pretrained(folder)
    reading = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        "module_output_name": "token_embeddings",
        "processing_kwargs": {"text": {"truncation": "only_second"}},  # as here, the document gives way
        "model_kwargs": pretrained.without_pooler(config),
    }
    write_json(folder / "sentence_bert_config.json", reading)


def _write_weights(weights: dict[str, Tensor], prefix: str, path: Path, new: str = "") -> None:
    chosen = {name.replace(prefix, new, 1): t.contiguous() for name, t in weights.items() if name.startswith(prefix)}
    save_file(chosen, path, {"format": "pt"})
    path.chmod(0o644)  # safetensors makes files that only their owner may read


def _write_tokenizer(model: CrossEncoder, folder: Path, tokens: Path) -> None:
    inputs = ["input_ids", *(["token_type_ids"] if model.reads_segments else []), "attention_mask"]
    fields = read_json(tokens / "tokenizer_config.json")
    write_json(folder / "tokenizer_config.json", fields | {"model_input_names": inputs})
    try:
        os.link(tokens / "tokenizer.json", folder / "tokenizer.json")  # one file, however many checkpoints
    except OSError:
        shutil.copy(tokens / "tokenizer.json", folder)


def _separator(tokens: Path) -> int:
    tokenizer = Tokenizer.from_file(str(tokens / "tokenizer.json"))
    return tokenizer.token_to_id(read_json(tokens / "tokenizer_config.json")["sep_token"])
