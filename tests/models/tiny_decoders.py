"""Tiny decoders and their tokenizers, as folders that `save_pretrained` wrote."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)

from rankscale_utils.study.decoder import PROMPTS
from tests.models.tiny import TEXTS

DECODERS = {  # what each needs beside the sizes that all have
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 24},
    "gpt_neox": {},
    "llama": {},
    "mistral": {"sliding_window": 24},
    "olmo2": {},
    "phi3": {},
    "qwen2": {},
    "qwen3": {"head_dim": 8, "tie_word_embeddings": True},
    "smollm3": {},
}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]


def decoder_tokenizer(begin: bool = False, pad: bool = True) -> PreTrainedTokenizerFast:
    """Return a tokenizer as Qwen has it: byte-level BPE, pairs end to end; with `begin`, texts begin as Llama's do."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([*TEXTS, *[*PROMPTS.values(), "yes", "no"] * 9], trainer)
    tokenizer.add_special_tokens([*SPECIAL, "<|begin|>"])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if begin:
        ids = [("<|begin|>", tokenizer.token_to_id("<|begin|>"))]
        pair = "<|begin|> $A <|begin|> $B"
        tokenizer.post_processor = processors.TemplateProcessing(single="<|begin|> $A", pair=pair, special_tokens=ids)
    roles = {"eos_token": "<|im_end|>"} | ({"pad_token": "<|endoftext|>"} if pad else {})
    inputs = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **roles)


def decoder_config(architecture: str, width: int, vocabulary: int, **settings: object) -> PretrainedConfig:
    """Return the configuration of a small decoder that reads 256 tokens, two heads' queries to each key."""
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 3, "num_attention_heads": 2}
    every = {"vocab_size": vocabulary, "max_position_embeddings": 256, "initializer_range": 0.3}
    every |= dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"))
    every |= {"num_key_value_heads": 1, "tie_word_embeddings": False}
    return AutoConfig.for_model(architecture, **every | sizes | DECODERS[architecture] | settings)


def save_decoder(
    folder: Path, architecture: str, width: int, head: bool = False, begin: bool = False, pad: bool = True, **settings
) -> Path:
    """Write a small decoder with random weights and its tokenizer, as a language model or with a head for scores."""
    tokenizer = decoder_tokenizer(begin, pad)
    config = decoder_config(architecture, width, len(tokenizer) + 3, **settings)
    if head:
        config.num_labels = config.num_labels if "num_labels" in settings else 1
        config.pad_token_id = tokenizer.pad_token_id
    torch.manual_seed(width)
    kind = AutoModelForSequenceClassification if head else AutoModelForCausalLM
    model = kind.from_config(config)
    for tensor in model.parameters():
        if tensor.dim() == 1:  # biases and norms, which are not at zero or one once trained
            torch.nn.init.normal_(tensor, mean=tensor.mean().item(), std=0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
