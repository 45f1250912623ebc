"""LoRA: low-rank changes of a decoder's linear layers, which are trained instead of the layers themselves.

Source: Hu et al., arXiv 2106.09685; the layers are peft's.
"""

from torch import Tensor, nn

from rankscale_utils.study.training import Lora

from .decoder import DecoderReranker, VerdictHead


def add_lora(model: DecoderReranker, settings: Lora) -> None:
    """Give every linear layer of a decoder a change of low rank, which starts at zero, and freeze all but the changes
    and a linear head.
    """
    from peft import LoraConfig, inject_adapter_in_model  # here, since it takes seconds to import

    layers = [name for name, module in model.encoder.named_modules() if isinstance(module, nn.Linear)]
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha or 2 * settings.rank, target_modules=layers)
    inject_adapter_in_model(config, model.encoder)  # which freezes the rest
    if isinstance(model.head, VerdictHead):
        model.head.requires_grad_(False)


def merged(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights by name, those of `model`, with its low-rank changes added to the layers that they change."""
    weights = dict(weights)
    for name, layer in model.named_modules():
        if not hasattr(layer, "lora_A"):
            continue
        down, up = (weights.pop(f"{name}.lora_{part}.default.weight") for part in ("A", "B"))
        kept = {key: weights.pop(f"{name}.base_layer.{key}") for key, _ in layer.base_layer.named_parameters()}
        kept["weight"] = kept["weight"] + layer.scaling["default"] * (up @ down)
        weights |= {f"{name}.{key}": tensor for key, tensor in kept.items()}
    return weights


def lora_parameters(model: nn.Module, settings: Lora | None) -> int:
    """Return how many parameters the changes of a model's linear layers have, before they are added; 0 without LoRA."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)] if settings else []
    return sum(settings.rank * (layer.in_features + layer.out_features) for layer in layers)
