"""How rankscale's cross-encoders read a pair, as a module of sentence-transformers; checkpoints carry this file."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from sentence_transformers.base.modules.transformer import Transformer
from torch import Tensor


class PairReader(Transformer):
    """An encoder of pairs whose queries are cut after `query_tokens` tokens; then the document gives way.

    `query_tokens` None: the longer of the two gives way, as everywhere.
    """

    config_keys: ClassVar = [*Transformer.config_keys, "query_tokens", "model_kwargs"]

    def __init__(self, model_name_or_path: str, *, query_tokens: int | None, **settings: Any) -> None:
        """Remember where queries are cut, and that there is no pooler, which saving would forget."""
        super().__init__(model_name_or_path, **settings)
        self.query_tokens, given = query_tokens, settings.get("model_kwargs") or {}
        self.model_kwargs = {name: value for name, value in given.items() if name == "add_pooling_layer"}

    def preprocess(
        self, inputs: Sequence[tuple[str, str] | str], prompt: str | None = None, **settings: Any
    ) -> dict[str, Tensor]:
        """Return pairs' tokens, and `of_query`: (pairs,), how many of their first tokens stand before the document.

        Texts alone, of which sentence-transformers' trainer counts the tokens, are read as every encoder does.
        """
        if isinstance(inputs[0], str):
            return super().preprocess(inputs, prompt=prompt, **settings)
        tokenizer = self.tokenizer.backend_tokenizer
        tokenizer.no_padding()
        tokenizer.no_truncation()
        texts = ([(prompt or "") + query for query, _ in inputs], [document for _, document in inputs])
        queries, documents = (tokenizer.encode_batch(some, add_special_tokens=False) for some in texts)
        for query in queries:
            query.truncate(self.query_tokens or len(query))
        strategy = "only_second" if self.query_tokens else "longest_first"
        tokenizer.enable_truncation(self.max_seq_length, strategy=strategy)
        pairs = [tokenizer.post_process(*pair) for pair in zip(queries, documents, strict=True)]
        names = {"input_ids": "ids", "token_type_ids": "type_ids", "attention_mask": "attention_mask"}
        known = {name: part for name, part in names.items() if name in self.tokenizer.model_input_names}
        columns = {name: [getattr(pair, part) for pair in pairs] for name, part in known.items()}
        of_query = torch.tensor([([*pair.sequence_ids[:-1], 1]).index(1) for pair in pairs])
        return dict(self.tokenizer.pad(columns, return_tensors="pt")) | {"of_query": of_query}

    def forward(self, features: dict[str, Tensor], **settings: Any) -> dict[str, Tensor]:
        """Add `token_embeddings` (pairs, tokens, hidden); the encoder sees nothing of `of_query`."""
        known = {name: part for name, part in features.items() if name != "of_query"}
        return features | super().forward(known, **settings)
