"""The pooling of rankscale's small models as a module of sentence-transformers; every checkpoint carries this file."""

import shutil
from pathlib import Path

import torch
from sentence_transformers.base.modules.module import Module
from torch import Tensor


class QueryMean(Module):
    """The mean of the last states of [CLS], the query and its [SEP]: those before the document."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add `sentence_embedding` (pairs, hidden) from `token_embeddings` (pairs, tokens, hidden) and `of_query`."""
        states, count = features["token_embeddings"], features["of_query"].unsqueeze(-1)
        weights = (torch.arange(states.shape[1], device=states.device) < count).to(states.dtype).unsqueeze(-1)
        return features | {"sentence_embedding": (states * weights).sum(1) / weights.sum(1)}

    def save(self, output_path: str, *args: object, **kwargs: object) -> None:
        """Write the configuration, and this file to the model's folder, where it is looked for."""
        self.save_config(output_path)
        shutil.copy(__file__, Path(output_path).absolute().parent)
