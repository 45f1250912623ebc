"""The pooling of rankscale's small models as a module of sentence-transformers; every checkpoint carries this file."""

from typing import ClassVar

from sentence_transformers.base.modules.module import Module
from torch import Tensor


class QueryMean(Module):
    """The mean of the last states of [CLS], the query and its [SEP]: `sep` is that token's id."""

    config_keys: ClassVar = ["sep"]

    def __init__(self, sep: int) -> None:
        """Remember the id that ends the query."""
        super().__init__()
        self.sep = sep

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add `sentence_embedding` (pairs, hidden) from `token_embeddings` (pairs, tokens, hidden) and `input_ids`."""
        states, ends = features["token_embeddings"], features["input_ids"] == self.sep
        weights = (ends.cumsum(1) - ends.long() == 0).to(states.dtype).unsqueeze(-1)
        return features | {"sentence_embedding": (states * weights).sum(1) / weights.sum(1)}

    def save(self, output_path: str, *args: object, **kwargs: object) -> None:
        """Write the configuration."""
        self.save_config(output_path)
