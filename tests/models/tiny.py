"""Tiny pretrained models of the BERT and ModernBERT families, as folders that `save_pretrained` wrote."""

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    BertTokenizerFast,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from rankscale_utils.collections.tokens import train_tokenizer

TEXTS = ["count the apples and the pears", "a document of some length, with commas", "pear apple plum", "naïve ☃ words"]


ENCODERS = {  # what each needs beside the sizes that all have
    "albert": {"embedding_size": 8},
    "bert": {},
    "camembert": {"pad_token_id": 1},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False},
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 16,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "distilbert": {},
    "electra": {"embedding_size": 8},
    "eurobert": {},
    "modernbert": {"local_attention": 8},
    "mpnet": {"pad_token_id": 1},
    "roberta": {"pad_token_id": 1},
    "xlm-roberta": {"pad_token_id": 1},
}


def small_config(architecture: str, width: int = 16, vocabulary: int = 300, **settings: object) -> PretrainedConfig:
    """Return the configuration of a small encoder that reads 100 tokens or more."""
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 3, "num_attention_heads": 2}
    if architecture == "distilbert":
        sizes = {"dim": width, "hidden_dim": 2 * width, "n_layers": 3, "n_heads": 2}
    every = {"vocab_size": vocabulary, "max_position_embeddings": 104, "pad_token_id": 0, "initializer_range": 0.5}
    special = dict.fromkeys(("bos_token_id", "cls_token_id", "eos_token_id", "sep_token_id", "mask_token_id"), 2)
    return AutoConfig.for_model(architecture, **every | special | sizes | ENCODERS[architecture] | settings)


def word_pieces(texts: Iterable[str] = TEXTS) -> PreTrainedTokenizerBase:
    """Return a tokenizer as BERT has it: WordPiece, segments 0 and 1."""
    return BertTokenizerFast(vocab=train_tokenizer(list(texts), 400).get_vocab(), mask_token="[UNK]")


def byte_pairs(texts: Iterable[str] = TEXTS, pair: str = "[CLS] $A [SEP] $B [SEP]") -> PreTrainedTokenizerBase:
    """Return a tokenizer as ModernBERT has it: byte-level BPE, special tokens after the others, no segments."""
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(special)
    ids = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair=pair, special_tokens=ids)
    roles = {f"{token[1:-1].lower()}_token": token for token in special}
    inputs = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **roles)


def sentence_pieces(texts: Iterable[str] = TEXTS) -> PreTrainedTokenizerBase:
    """Return a tokenizer as T5 has it: unigram pieces with a mark for a word's begin, and an end token, no others."""
    words = {f"▁{word}" for word in ("true", "false", *" ".join(texts).split())}
    letters = {letter for word in words for letter in word} | set(map(chr, range(33, 127)))
    scored = [(piece, -2.0) for piece in sorted(words)] + [(letter, -8.0) for letter in sorted(letters)]
    tokenizer = Tokenizer(models.Unigram([("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), *scored], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def save_t5(folder: Path, width: int, **settings: object) -> Path:
    """Write a tiny T5 with random weights and its tokenizer, as published: output rows padded beyond the tokenizer."""
    tokenizer = sentence_pieces()
    config = T5Config(
        vocab_size=len(tokenizer) + 7,
        d_model=width,
        d_kv=width // 2,
        d_ff=2 * width,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
        **settings,
    )
    torch.manual_seed(width)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_pretrained(
    folder: Path, architecture: str, width: int, dtype: torch.dtype = torch.float32, positions: int = 64
) -> Path:
    """Write a tiny encoder with random weights, as its pretraining left it, and its tokenizer."""
    tokenizer = {"bert": word_pieces, "modernbert": byte_pairs}[architecture]()
    config = AutoConfig.for_model(
        architecture,
        vocab_size=len(tokenizer) + 3,  # as published vocabularies are padded
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=positions,
        initializer_range=0.5,  # as far from the start as trained weights are
        pad_token_id=tokenizer.pad_token_id,
        **({"local_attention": 8} if architecture == "modernbert" else {}),
    )
    torch.manual_seed(width)
    AutoModelForMaskedLM.from_config(config).to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
