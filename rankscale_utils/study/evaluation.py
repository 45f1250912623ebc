"""What a model reads of a text, which documents it reranks, and what is measured."""

from collections.abc import Iterator
from typing import Any, Literal

import Stemmer
from pydantic import Field

from .collection import CollectionForm
from .fields import Finite, FolderName, Part, Whole, refusal


class FirstStage(Part):
    """BM25 (bm25s, method `lucene`) that supplies the candidates."""

    k1: Finite = Field(0.9, ge=0)
    b: Finite = Field(0.4, ge=0, le=1)
    language: Literal["en", "de", "nl", "fr", "es", "pt", "it", "ru", "sv", "no", "zh", "tr", "ko", "da"] | None = (
        Field("en", description="whose stop words are left out (bm25s' lists); null: none are")
    )
    stemmer: str | None = Field(
        None, description="an algorithm of PyStemmer, such as porter (Anserini's for English) or german; null: none"
    )
    tokenizer: Literal["words", "unicode"] = Field(
        "words",
        description="words: two letters or digits or more between other signs, as bm25s has them; unicode: words of "
        "any script, and pairs of neighbouring characters where no blanks part words, as in Chinese and Japanese",
    )

    @refusal("stemmer")
    def _unknown(stemmer: str | None, _: dict) -> Iterator[str]:
        if stemmer is not None and stemmer not in (known := Stemmer.algorithms()):
            yield f"is no algorithm of PyStemmer: write one of {', '.join(known)}, or null"


class Text(Part):
    """How text becomes tokens: a WordPiece vocabulary trained on the training split, and lengths in tokens."""

    vocabulary: Whole = Field(8192, ge=256, description="pretrained rungs bring their own tokenizer instead")
    query_tokens: Whole | None = Field(
        20,
        ge=1,
        description="longer queries are cut; null: as long as a pair, whose longer text gives way, as transformers "
        "cuts pairs (`longest_first`), so that tools that cut no queries read a checkpoint's pairs alike",
    )
    pair_tokens: Whole = Field(
        96,
        ge=8,
        description="query, document and special tokens (mostly three; a decoder's prompt); where they are read apart, "
        "a document keeps what is left beside the longest query",
    )

    @refusal("pair_tokens")
    def _no_room(pair_tokens: int, earlier: dict) -> Iterator[str]:
        query_tokens = earlier.get("query_tokens") or 0
        if pair_tokens < query_tokens + 4:
            yield f"leaves no room for a document beside query_tokens = {query_tokens}: raise it or lower query_tokens"

    @property
    def longest_query(self) -> int:
        """The most tokens of a query that is read apart from its document, without special tokens."""
        return self.query_tokens or self.pair_tokens

    @property
    def document_tokens(self) -> int:
        """The most tokens of a document that is read apart from its query, without special tokens."""
        return self.pair_tokens - (self.query_tokens + 3 if self.query_tokens else 2)


class Evaluation(Part):
    """The tests: which collections, and how many candidates of each query are reranked."""

    tests: dict[FolderName, CollectionForm] = Field(
        {}, description="test collections by name; absent: the collection's own test split"
    )
    queries: Whole = Field(1000, gt=0, description="queries of an own test split, chosen by the hash of their text")
    depth: Whole = Field(20, ge=10, description="candidates that are reranked, and documents that a search finds")
    negatives: Whole = Field(256, gt=0, description="of a bi-encoder's contrastive entropy, drawn from the pool")
    pool: Whole = Field(100_000, gt=0, description="random documents that these come from; all where there are fewer")
    metrics: tuple[str, ...] = Field(("nDCG@10", "RR@10", "AP", "R@5", "R@10", "P@10"), validate_default=False)

    @property
    def entropy(self) -> str:
        """The name of a bi-encoder's contrastive entropy against random documents, such as CE256."""
        return f"CE{self.negatives}"

    @refusal("pool")
    def _too_small(pool: int, earlier: dict) -> Iterator[str]:
        if pool < (negatives := earlier.get("negatives", 0)):
            yield f"so few documents do not hold negatives = {negatives}: raise it or lower negatives"

    @refusal("metrics")
    def _unknown(metrics: tuple[str, ...], _: dict) -> Iterator[str]:
        if unknown := [metric for metric in metrics if not _is_measure(metric)]:
            yield f"{unknown} are no rising measures in ir-measures' notation: write nDCG@10, RR@10, AP, R@5, P@10 …"


class WithFirstStage(Part):
    """What models reach together with the first stage: scores interpolated by one weight, and ranks fused."""

    dev: CollectionForm | None = Field(
        None,
        description="the collection whose queries the weight is learnt on, which are neither trained nor tested; "
        "absent: those that a collection which is split here sets apart, or each half of a test's for the other half",
    )
    queries: Whole = Field(300, gt=0, description="of it, chosen by the hash of their text")


def asked_for(given: Any) -> Any:
    """Return a section's fields for yes, and nothing for no."""
    return ({} if given else None) if isinstance(given, bool) else given


def _is_measure(name: str) -> bool:
    import ir_measures  # here, since it takes longer to import than all else

    try:
        measure = ir_measures.parse_measure(name)
        known = str(measure) == name and ir_measures.DefaultPipeline.supports(measure)
    except Exception:  # of many kinds: NameError, AssertionError, KeyError, …
        return False
    return known and not name.startswith(("Num", "Judged")) and not name.endswith("@0")
