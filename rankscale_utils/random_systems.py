"""Systems of one shape with random weights, which time does not feel, for texts of any length."""

from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, BertConfig, T5Config

from rankscale_utils import systems
from rankscale_utils.collections.singles import Around, Singles
from rankscale_utils.collections.tokens import Pairs, Texts
from rankscale_utils.models import ed2lm
from rankscale_utils.models.bi_encoder import BiEncoder
from rankscale_utils.models.cross_encoder import CrossEncoder
from rankscale_utils.parts import Rung


def of_shape(
    shape: Rung,
    pairs: Pairs,
    folder: Path,
    device: torch.device,
    poolings: tuple[int, ...] = (1, 2, 4, 8),
    rung: str = "",
    dtype: torch.dtype = torch.float32,
) -> list[systems.System]:
    """Return a BERT as cross-encoder and as bi-encoder, and as ED2LM a T5 with as many layers in each of its halves.

    pairs: its tokenizer's `pair_tokens` are the models' positions. folder: where ED2LM's stores of all documents go.
    """
    vocabulary, positions = pairs.tokenizer.tokenizer.get_vocab_size(), pairs.tokenizer.pair_tokens

    def singles(texts: Texts, around: Around) -> Singles:
        return Singles(texts, pairs.tokenizer, positions, around)

    rows = np.arange(len(pairs.documents.starts) - 1)
    documents = singles(pairs.documents, "end")
    setting = ed2lm.Setting(1, 2, int(documents.lengths(rows).max()), poolings)
    bert = _bert(shape, vocabulary, positions)
    cross = CrossEncoder(AutoModel.from_config(bert, add_pooling_layer=False)).to(device, dtype).eval()
    bi = BiEncoder(AutoModel.from_config(bert, add_pooling_layer=False)).to(device, dtype).eval()
    t5 = ed2lm.build(_t5(shape, vocabulary), setting).to(device, dtype).eval()
    return [
        systems.cross_encoder(cross, pairs, rung),
        systems.bi_encoder(bi, singles(pairs.queries, "both"), singles(pairs.documents, "both"), rows, rung),
        *systems.ed2lm(t5, singles(pairs.queries, "none"), documents, rows, folder, rung),
    ]


def _bert(shape: Rung, vocabulary: int, positions: int) -> BertConfig:
    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.intermediate,
        max_position_embeddings=positions,
    )


def _t5(shape: Rung, vocabulary: int) -> T5Config:
    return T5Config(
        vocab_size=vocabulary,
        d_model=shape.hidden,
        d_kv=shape.hidden // shape.heads,
        d_ff=shape.intermediate,
        num_layers=shape.layers,
        num_heads=shape.heads,
        decoder_start_token_id=0,
    )
