"""Embed texts with a bi-encoder, in batches of like length."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rankscale_utils.collections.batching import of_like_length
from rankscale_utils.collections.singles import Singles
from rankscale_utils.machine.transfer import ahead
from rankscale_utils.models.bi_encoder import BiEncoder

from .packed import packed, tokens_together


@torch.inference_mode()
def embed(
    model: BiEncoder, texts: Singles, rows: NDArray, file: Path | None = None, of_queries: bool = False
) -> NDArray[np.float32]:
    """Return embeddings (rows, width) of the texts at `rows`, memory-mapped where a file is given.

    Products of queries' and documents' rows are those of the model's embeddings. Where the model is narrower than the
    common dimensions, the projections P x + b of both sides are multiplied out: a document keeps (x, 1), and a query
    (P x + b)ᵀ (P | b), so that search and memory cost the model's own width.
    """
    fold, width = None, model.dimensions
    linear = isinstance(model.projection, nn.Linear) and model.projection.bias is not None
    if linear and model.projection.in_features + 1 < width:
        fold = torch.cat([model.projection.weight, model.projection.bias[:, None]], 1)  # (dimensions, hidden + 1)
        width = fold.shape[1]
    shape = (len(rows), width)
    made = np.empty(shape, np.float32) if file is None else np.lib.format.open_memmap(file, "w+", np.float32, shape)
    lengths = texts.lengths(rows)
    chosen = list(of_like_length(lengths, tokens_together(model.encoder)))
    on_gpu = model.encoder.device.type == "cuda"
    batches = ahead(lambda places: model.inputs(*texts.batch(rows[places])), chosen, on_gpu)
    with packed(model.encoder, int(lengths.sum())):
        for places, batch in zip(chosen, batches, strict=True):
            pooled = model.pooled(batch)
            made[places] = _embedded(model, pooled, fold, of_queries).float().cpu().numpy()
    return made


def _embedded(model: BiEncoder, pooled: Tensor, fold: Tensor | None, of_query: bool) -> Tensor:
    if fold is None:
        return model.projection(pooled)
    return model.projection(pooled) @ fold if of_query else torch.cat([pooled, torch.ones_like(pooled[:, :1])], 1)
