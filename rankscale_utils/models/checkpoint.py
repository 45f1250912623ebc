"""A checkpoint's files, laid out such that the tools of its users load it and score alike.

An ED2LM is a folder of transformers, which `T5ForConditionalGeneration` reads; its configuration says how it reranks.
The other families are three modules of sentence-transformers in a row: the encoder, the pooling, and a linear layer,
which writes a cross-encoder's raw scores or a bi-encoder's embeddings. `SentenceTransformer(path)` needs nothing else:
`encode_query` and `encode_document` cut as the study did. `sentence_transformers.CrossEncoder(path)` asks for
`trust_remote_code=True` where the study has `query_tokens`, as no setting of a tokenizer cuts a query apart from its
document, and `pair_reader.py` does; and where the query's mean is read, which `query_mean.py` pools.
"""

import shutil
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import damage_of, hashes_of, read_json, whole_folder, write_json
from rankscale_utils.study import paths

from .bi_encoder import BiEncoder
from .cross_encoder import CrossEncoder
from .ed2lm import Ed2lm, Setting, build_ed2lm
from .pretrained import bare_encoder, without_pooler

Model = CrossEncoder | BiEncoder | Ed2lm
LINEAR = Path("2_Dense") / "model.safetensors"
TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"
POOLING = "sentence_transformers.sentence_transformer.modules.pooling.Pooling"


def save_checkpoint(model: Model, path: Path, tokens: Path, weights: dict[str, Tensor] | None = None) -> dict[str, str]:
    """Write a checkpoint, whole or not at all, that its users' own tools load; return every file's SHA-256 by name.

    `tokens` is the folder that holds the study's tokenizer; `weights`, the whole model's, are given when the model
    itself holds only its part of them.
    """
    with whole_folder(path) as temporary:
        write_layout(model, model.state_dict() if weights is None else weights, temporary, tokens)
        return hashes_of(temporary)


def load_checkpoint(model: Model, path: Path) -> Model:
    """Read a checkpoint's weights into a model of the same shape, and return it.

    Raises:
        StudyError: the checkpoint is damaged or gone.
    """
    try:
        read_layout(model, path)
    except (OSError, SafetensorError) as error:
        raise StudyError(f"checkpoint {path} is damaged or gone: train its run again.") from error
    return model


def open_checkpoint(model: Model, path: Path) -> Model:
    """Read a run's checkpoint into a model of the same shape, once its files are those that the run's ledger names.

    Raises:
        StudyError: a file is damaged or gone. The ledger, which vouches for it, is removed, so that the next command
            trains the run again.
    """
    run, ledger = path.parent, paths.ledger_file(path.parent)
    rows = {paths.checkpoint_file(run, row["exposure"]): row for row in read_json(ledger)["checkpoints"]}
    damage = damage_of(path, rows[path].get("files", {}))
    if not damage:
        return load_checkpoint(model, path)
    ledger.unlink()
    raise StudyError(
        f"checkpoint {path} is damaged: {damage}: run the same command again, which trains run {run.name} anew and "
        "nothing else."
    )


def model_of_folder(folder: Path) -> Model:
    """Return the model of a checkpoint's folder, of whatever family, ready to score; no code of the folder is run.

    Raises:
        StudyError: the folder is no checkpoint that a study wrote, or it is damaged.
    """
    try:
        if not (folder / "config.json").is_file():
            raise OSError("it has no config.json")
        model = _empty_model(folder)
        read_layout(model, folder)
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".:")
        raise StudyError(
            f"{folder} is no checkpoint that a study wrote, or it is damaged ({reason}): name a folder such as "
            "runs/demo/listwise-w8-s0/exposure-000007680."
        ) from None
    return model.eval()


def _empty_model(folder: Path) -> Model:
    """Return a model of the shape that a checkpoint's configuration names."""
    config = AutoConfig.from_pretrained(folder)
    if noted := getattr(config, "ed2lm", None):
        return build_ed2lm(config, Setting(**noted | {"poolings": tuple(noted["poolings"])}))
    _, pooling, linear = (module["type"] for module in read_json(folder / "modules.json"))
    written = read_json(folder / "2_Dense" / "config.json")
    if not linear.startswith("sentence_transformers.base") or "module_output_name" not in written:
        raise ValueError("its last module is another's")
    encoder = bare_encoder(config)
    if written["module_output_name"] == "scores":
        return CrossEncoder(encoder, reads="query" if pooling == "query_mean.QueryMean" else "cls")
    mode = read_json(folder / "1_Pooling" / "config.json")["pooling_mode"]
    return BiEncoder(encoder, written["out_features"], mode)


def write_layout(model: Model, weights: dict[str, Tensor], folder: Path, tokens: Path) -> None:
    """Fill an empty folder with a model, its weights by name, and its tokenizer, which `tokens` holds."""
    if isinstance(model, Ed2lm):
        model.t5.config.save_pretrained(folder)
        _write_tokenizer(model, folder, tokens)
        _write_weights(weights, "t5.", folder / "model.safetensors")
    else:
        _write_modules(model, weights, folder, tokens)


def _write_modules(model: CrossEncoder | BiEncoder, weights: dict[str, Tensor], folder: Path, tokens: Path) -> None:
    scores, lengths = isinstance(model, CrossEncoder), read_json(tokens / "tokenizer_config.json")
    own_pooling = scores and model.reads == "query"
    own_reader = scores and bool(own_pooling or lengths["query_tokens"])
    modules = [
        ("", "pair_reader.PairReader" if own_reader else TRANSFORMER),
        ("1_Pooling", "query_mean.QueryMean" if own_pooling else POOLING),
        ("2_Dense", "sentence_transformers.base.modules.dense.Dense"),
    ]
    for path, _ in modules[1:]:
        (folder / path).mkdir()
    listed = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(modules)]
    write_json(folder / "modules.json", listed)
    raw = {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.linear.Identity"}
    apart = {"model_type": "SentenceTransformer", "similarity_fn_name": "dot"}
    write_json(folder / "config_sentence_transformers.json", raw if scores else apart)
    _write_tokenizer(model, folder, tokens)
    cuts = {"query_tokens": lengths["query_tokens"]} if own_reader else {}
    _write_encoder(model.encoder.config, folder, cuts if scores else _cuts_apart(**lengths))
    for code in ["pair_reader.py"] * own_reader + ["query_mean.py"] * own_pooling:
        shutil.copyfile(Path(__file__).with_name(code), folder / code)
    if own_pooling:
        write_json(folder / "1_Pooling" / "config.json", {})
    else:
        pooling = {"embedding_dimension": model.encoder.config.hidden_size}
        pooling["pooling_mode"] = "cls" if scores else model.pooling
        write_json(folder / "1_Pooling" / "config.json", pooling)
    linear = model.head if scores else model.projection
    dense = {
        "in_features": linear.in_features,
        "out_features": linear.out_features,
        "activation_function": "torch.nn.modules.linear.Identity",
        "module_output_name": "scores" if scores else "sentence_embedding",
    }
    write_json(folder / "2_Dense" / "config.json", dense)
    _write_weights(weights, "encoder.", folder / "model.safetensors")
    _write_weights(weights, "head." if scores else "projection.", folder / LINEAR, "linear.")


def read_layout(model: Model, folder: Path) -> None:
    """Give a model the weights that `write` wrote of such a model."""
    if isinstance(model, Ed2lm):
        load_model(model.t5, folder / "model.safetensors")
        return
    load_model(model.encoder, folder / "model.safetensors")
    linear = load_file(folder / LINEAR)
    last = model.head if isinstance(model, CrossEncoder) else model.projection
    last.load_state_dict({name.replace("linear.", ""): tensor for name, tensor in linear.items()})


def _write_encoder(config: PretrainedConfig, folder: Path, cuts: dict[str, int | None]) -> None:
    config.save_pretrained(folder)
    reading = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        "module_output_name": "token_embeddings",
        "model_kwargs": without_pooler(config),
    }
    write_json(folder / "sentence_bert_config.json", reading | cuts)


def _cuts_apart(pair_tokens: int, query_tokens: int | None, **_: object) -> dict[str, int]:
    """Return the longest query and document that are read apart, two special tokens included."""
    if query_tokens is None:
        return {"query_length": pair_tokens, "document_length": pair_tokens}
    return {"query_length": query_tokens + 2, "document_length": pair_tokens - query_tokens - 1}


def _write_weights(weights: dict[str, Tensor], prefix: str, path: Path, new: str = "") -> None:
    chosen, known = {}, set()
    for name, tensor in weights.items():
        if name.startswith(prefix) and (place := tensor.data_ptr()) not in known:  # tied tensors are written once
            known.add(place)
            chosen[name.replace(prefix, new, 1)] = tensor.contiguous()
    save_file(chosen, path, {"format": "pt"})
    path.chmod(0o644)  # safetensors makes files that only their owner may read


def _write_tokenizer(model: Model, folder: Path, tokens: Path) -> None:
    types = ["token_type_ids"] if getattr(model, "reads_segments", False) else []
    fields = read_json(tokens / "tokenizer_config.json")
    write_json(
        folder / "tokenizer_config.json", fields | {"model_input_names": ["input_ids", *types, "attention_mask"]}
    )
    shutil.copyfile(tokens / "tokenizer.json", folder / "tokenizer.json")  # a link would let one edit change them all
