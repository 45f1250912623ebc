"""Tiny T5s for the tests of ED2LM: the original, v1.1, a mixture of both, mT5 and uMT5."""

import torch
from torch import nn
from transformers import AutoConfig, PretrainedConfig

from rankscale_utils.models.ed2lm import Ed2lm, Setting, build_ed2lm

WORDS, TRUE, FALSE, LONGEST = 60, 3, 4, 24
VARIANTS = {
    "t5": {},
    "v1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "gated, tied": {"feed_forward_proj": "gated-gelu"},
    "mt5": {"model_type": "mt5"},
    "umt5": {"model_type": "umt5"},
    "one layer": {"num_layers": 2, "num_decoder_layers": 1, "relative_attention_num_buckets": 8},
}


def config(variant: str) -> PretrainedConfig:
    """A shape whose widths all differ, so that none stands in for another: d 24, heads 3 × 10, forward 40."""
    shape = {"d_model": 24, "d_kv": 10, "num_heads": 3, "d_ff": 40, "num_layers": 2, "num_decoder_layers": 3}
    shape |= {"relative_attention_num_buckets": 12, "relative_attention_max_distance": 16}
    settings = {"vocab_size": WORDS, "decoder_start_token_id": 0, "dropout_rate": 0.0}
    return AutoConfig.for_model(**({"model_type": "t5"} | settings | shape | VARIANTS[variant]))


def tiny(variant: str = "t5", seed: int = 0, poolings: tuple[int, ...] = (1, 2, 4)) -> Ed2lm:
    """A model whose norms' weights are no ones and whose scores differ between documents."""
    torch.manual_seed(seed)
    model = build_ed2lm(config(variant), Setting(TRUE, FALSE, LONGEST, poolings)).eval()
    for name, parameter in model.named_parameters():
        if "layer_norm" in name:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return model


def padded(lengths: list[int], seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Random token ids (B, longest) and their mask."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, WORDS, (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return ids * mask, mask
