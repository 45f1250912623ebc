"""Tiny pretrained models of the BERT and ModernBERT families, as folders that `save_pretrained` wrote."""

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    BertTokenizerFast,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from rankscale_utils.collections.tokens import train_tokenizer

TEXTS = ["count the apples and the pears", "a document of some length, with commas", "pear apple plum", "naïve ☃ words"]
FEW_TEXTS = {"packages": ["tornado"]}  # of docstrings, where every model reads them with a tokenizer of its own


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
    "eurobert": {"num_key_value_heads": 1},
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


ROBERTAS = ("camembert", "mpnet", "roberta", "xlm-roberta")
TOLD_SEGMENTS = ("albert", "bert", "deberta", "deberta-v2", "electra")


def tokenizer_of(architecture: str, texts: Iterable[str] = TEXTS) -> PreTrainedTokenizerBase:
    """Return a small byte-level tokenizer that lays out pairs as the architecture's published ones do."""
    roles = {"cls": "[CLS]", "pad": "[PAD]", "sep": "[SEP]", "unk": "[UNK]", "mask": "[MASK]"}
    pair, single = "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", "[CLS] $A [SEP]"
    if architecture in ROBERTAS:  # whose padding is token 1, behind which positions begin to count
        roles = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
        pair, single = "<s> $A </s> </s> $B </s>", "<s> $A </s>"
    if architecture == "eurobert":  # whose pairs end in a token of their own
        roles |= {"cls": "<|begin|>", "sep": "<|end|>"}
        pair, single = "<|begin|> $A $B <|end|>", "<|begin|> $A <|end|>"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=[*roles.values()], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    ids = [(token, tokenizer.token_to_id(token)) for token in roles.values()]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)
    inputs = ["input_ids", *["token_type_ids"] * (architecture in TOLD_SEGMENTS), "attention_mask"]
    named = {f"{role}_token": token for role, token in roles.items()}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **named)


def save_encoder(folder: Path, architecture: str, width: int, reranker: bool = False, **settings: object) -> Path:
    """Write a small encoder with random weights and its tokenizer, as its pretraining left it or as a reranker."""
    tokenizer = tokenizer_of(architecture)
    config = small_config(architecture, width, len(tokenizer) + 3, **settings)
    config.pad_token_id = tokenizer.pad_token_id
    if reranker:
        config.num_labels = config.num_labels if "num_labels" in settings else 1
    kind = AutoModelForSequenceClassification if reranker else AutoModelForMaskedLM
    torch.manual_seed(width)
    model = kind.from_config(config)
    for name, tensor in model.named_parameters():
        if name.endswith("bias"):  # which start at zero, and are not there once trained
            torch.nn.init.normal_(tensor, std=0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def sentence_pieces(texts: Iterable[str] = TEXTS) -> PreTrainedTokenizerBase:
    """Return a tokenizer as T5 has it: unigram pieces with a mark for a word's begin, and an end token, no others."""
    words = {f"▁{word}" for word in ("true", "false", "yes", "no", *" ".join(texts).split())}
    letters = {letter for word in words for letter in word} | set(map(chr, range(33, 127)))
    scored = [(piece, -2.0) for piece in sorted(words)] + [(letter, -8.0) for letter in sorted(letters)]
    tokenizer = Tokenizer(models.Unigram([("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), *scored], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def save_t5(folder: Path, width: int, kind: str = "t5", **settings: object) -> Path:
    """Write a tiny T5, mT5 or uMT5 with random weights and its tokenizer, as published: output rows padded
    beyond the tokenizer.
    """
    tokenizer = sentence_pieces()
    config = AutoConfig.for_model(
        kind,
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
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder)
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
