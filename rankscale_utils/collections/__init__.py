"""Collections: queries, documents, judgments, candidates, tokens, training groups."""

from .collection import Collection, open_collection

__all__ = ["Collection", "open_collection"]
