"""What folders of sentence-transformers do with an encoder's states: pooling, dense layers and normalisation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PretrainedConfig

from rankscale_utils.errors import StudyError

from .source import OfDense, file_of, json_of, of_folder, of_modules, reading

POOLINGS: dict[str, Literal["cls", "mean"]] = {"cls": "cls", "cls_token": "cls", "mean": "mean", "mean_tokens": "mean"}
ACTIVATIONS = {kind.__name__: kind for kind in (nn.Identity, nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU)}
KNOWN_MODULES = {"Transformer", "Pooling", "Dense", "Normalize"}


class UnitLength(nn.Module):
    """Scales embeddings (texts, width) to length one."""

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return them so."""
        return nn.functional.normalize(embeddings, dim=-1)


@dataclass(frozen=True)
class OwnLayers:
    """How a folder pools an encoder's states, and the `projection` of what is pooled to its `dimensions`."""

    pooling: Literal["cls", "mean"]
    projection: nn.Module
    dimensions: int


def makes_embeddings(source: str) -> bool:
    """Say whether an id or folder says how it pools states into embeddings, as sentence-transformers writes it."""
    return "Pooling" in dict(_modules(source)) and of_folder(source).get("model_type") != "CrossEncoder"


def read_own_layers(field: str, source: str, config: PretrainedConfig, weights: bool = True) -> OwnLayers:
    """Return what follows the encoder in an id or folder; without `weights`, those of dense layers stay random.

    Raises:
        StudyError: there is what is not known here, or it cannot be read.
    """
    modules = _modules(source)
    kinds = [kind for kind, _ in modules]
    if set(kinds) - KNOWN_MODULES or modules[0] != ("Transformer", "") or kinds[1] != "Pooling":
        raise StudyError(
            f"{field} = {source!r}: its modules.json lists {', '.join(kinds)}: known here are a Transformer in the "
            "folder itself, a Pooling, and then Dense and Normalize."
        )
    pooling = _pooling(field, source, json_of(source, f"{modules[1][1]}/config.json", dict[str, Any]) or {})
    layers = [_dense(field, source, path, weights) if kind == "Dense" else UnitLength() for kind, path in modules[2:]]
    told = of_folder(source)
    if told.get("truncate_dim"):
        raise StudyError(
            f"{field} = {source!r} keeps {told['truncate_dim']} of an embedding's numbers, and here all are kept: take "
            "truncate_dim out of a local copy's config_sentence_transformers.json."
        )
    similarity = told.get("similarity_fn_name") or "cosine"
    if similarity not in ("cosine", "dot"):
        raise StudyError(f"{field} = {source!r} compares by {similarity}: those known here are cosine and dot.")
    if similarity == "cosine" and kinds[-1] != "Normalize":
        layers.append(UnitLength())
    linears = [linear for linear in map(linear_of, layers) if linear]
    dimensions = linears[-1].out_features if linears else config.hidden_size
    alone = len(layers) == 1 and isinstance(layers[0], nn.Linear)
    return OwnLayers(pooling, layers[0] if alone else nn.Sequential(*layers), dimensions)


def _modules(source: str) -> list[tuple[str, str]]:
    """Return the kind and folder of every module of sentence-transformers; none where there is no such list."""
    return [(module["type"].rpartition(".")[2], module["path"]) for module in of_modules(source)]


def layers_of(projection: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers of a bi-encoder's projection, each with what its tensors' names begin with in the model."""
    if isinstance(projection, nn.Linear):
        yield "projection.", projection
        return
    for place, layer in enumerate(projection):
        yield f"projection.{place}.{'0.' if isinstance(layer, nn.Sequential) else ''}", layer


def linear_of(layer: nn.Module) -> nn.Linear | None:
    """Return the linear part of one of these layers, or None of a normalisation."""
    inside = layer[0] if isinstance(layer, nn.Sequential) else layer
    return inside if isinstance(inside, nn.Linear) else None


def _pooling(field: str, source: str, told: dict[str, Any]) -> Literal["cls", "mean"]:
    """Return how a folder's states are pooled; several poolings stand beside one another in old and new files."""
    modes = told.get("pooling_mode") or [
        name.removeprefix("pooling_mode_") for name in told if name.startswith("pooling_mode_") and told[name]
    ]
    modes = [modes] if isinstance(modes, str) else modes
    if len(modes) != 1 or modes[0] not in POOLINGS or not told.get("include_prompt", True):
        but = "" if told.get("include_prompt", True) else ", its prompt left out"
        raise StudyError(
            f"{field} = {source!r} pools by {' and '.join(modes) or 'nothing that is said'}{but}: known here are the "
            "mean of all tokens and the first one (cls)."
        )
    return POOLINGS[modes[0]]


def _dense(field: str, source: str, path: str, weights: bool) -> nn.Module:
    told = json_of(source, f"{path}/config.json", OfDense)
    activation = told.get("activation_function", "Tanh").rpartition(".")[2]
    if activation not in ACTIVATIONS or told.get("use_residual"):
        ends = "adds its input" if activation in ACTIVATIONS else f"ends in {activation}"
        raise StudyError(f"{field} = {source!r}: its layer {path} {ends}, which is not known here.")
    linear = nn.Linear(told["in_features"], told["out_features"], told.get("bias", True))
    if weights:
        with reading(field, source, f"layer {path}"):
            if file := file_of(source, f"{path}/model.safetensors"):
                stored = load_file(file)
            else:
                stored = torch.load(file_of(source, f"{path}/pytorch_model.bin"), weights_only=True)
            linear.load_state_dict({name.removeprefix("linear."): tensor for name, tensor in stored.items()})
    return linear if activation == "Identity" else nn.Sequential(linear, ACTIVATIONS[activation]())
