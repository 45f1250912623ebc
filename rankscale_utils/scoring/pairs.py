"""Score pairs of query and document with a cross-encoder, in batches of like length."""

import numpy as np
import torch

from rankscale_utils.collections.batching import of_like_length, of_one_group
from rankscale_utils.collections.tokens import Pairs
from rankscale_utils.machine.transfer import ahead
from rankscale_utils.models.cross_encoder import CrossEncoder
from rankscale_utils.models.flat_encoders import Inputs

from .packed import packed, tokens_together


@torch.inference_mode()
def score_pairs(model: CrossEncoder, pairs: Pairs, query_rows: np.ndarray, document_rows: np.ndarray) -> np.ndarray:
    """Return the raw scores of pairs in the order given: (pairs,).

    Batches hold pairs of like length, or of one query where a model reads the query once for all.
    """
    lengths, tokens = pairs.lengths(query_rows, document_rows), tokens_together(model.encoder)
    groups = of_one_group(query_rows, lengths, tokens) if model.shares_queries else of_like_length(lengths, tokens)
    chosen = list(groups)

    def batch(places: np.ndarray) -> Inputs:
        return model.inputs(*pairs.batch(query_rows[places], document_rows[places]))

    with packed(model, int(lengths.sum())):
        batches = ahead(batch, chosen, model.encoder.device.type == "cuda")
        found = torch.cat([model(each).float() for each in batches])  # a GPU is asked for them once
    scores = np.empty(len(query_rows), np.float32)
    scores[np.concatenate(chosen)] = found.cpu().numpy()
    return scores
