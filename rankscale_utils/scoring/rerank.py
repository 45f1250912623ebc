"""Rerank the documents of one query with a checkpoint."""

from collections.abc import Iterable, Mapping, Sequence, Set
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from rankscale_utils.collections.batching import of_like_length
from rankscale_utils.collections.singles import Singles
from rankscale_utils.collections.tokens import Pairs, StudyTokenizer, Texts
from rankscale_utils.models.bi_encoder import BiEncoder
from rankscale_utils.models.checkpoint import model_of_folder
from rankscale_utils.models.cross_encoder import CrossEncoder
from rankscale_utils.models.ed2lm import Ed2lm
from rankscale_utils.models.export import Model
from rankscale_utils.study.arguments import checked, optional, path, shown, text
from rankscale_utils.study.objectives import SCORES

from .embeddings import embed
from .packed import tokens_together
from .pairs import score_pairs


def _texts_by_id(value: Any) -> dict[Any, str]:
    """Read texts, or texts by id; where there are none, a text's id is its place."""
    if isinstance(value, str | Set) or not isinstance(value, Mapping | Iterable):
        raise ValueError("must be a list of texts, or texts by id: write [TEXT] for a single one")
    texts = dict(value) if isinstance(value, Mapping) else dict(enumerate(value))
    if not texts:
        raise ValueError("is empty: give the text of one document or more")
    for name, document in texts.items():
        if not isinstance(document, str) or not document.strip():
            raise ValueError(f"{shown(document)} under {name!r} is no text: correct it or leave it out")
    return texts


def _score(value: Any) -> str:
    if value not in SCORES:
        raise ValueError(f"an ED2LM has {', '.join(SCORES)}: choose one")
    return value


def _device(value: Any) -> torch.device:
    try:
        device = torch.device(value)
    except (RuntimeError, TypeError):
        raise ValueError("torch knows no such device: write cpu, cuda or cuda:1") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"this machine shows {torch.cuda.device_count()} GPUs: write cpu, or another number")
    return device


@checked(folder=path, query=text, documents=_texts_by_id, score=_score, device=optional(_device))
def rerank(
    folder: Path | str,
    query: str,
    documents: Sequence[str] | Mapping[str, str],
    *,
    score: str = "true_false",
    device: torch.device | str | None = None,
) -> pd.DataFrame:
    """Return documents in the order in which a checkpoint ranks them for a query.

    Texts are cut as in the study that trained it. A checkpoint stays in memory until another one is asked for.

    Parameters
    ----------
    folder
        A checkpoint that a study wrote, such as ``runs/demo/listwise-w8-s0/exposure-000007680``: a cross-encoder, a
        bi-encoder or an ED2LM.
    query
        The query's text.
    documents
        The texts, or the texts by id.
    score
        What an ED2LM ranks by: true_false, log_likelihood (of the query, which the objectives generation,
        unlikelihood and margin train) or both.
    device
        Where to compute; None: on a GPU where there is one.

    Returns
    -------
    pandas.DataFrame
        A row a document, the best first: rank (from 1), document_id (its place from 0 where no ids are given), score
        (a cross-encoder's logit, a bi-encoder's inner product, an ED2LM's log-odds or nats) and text. Equal scores
        keep the order given.

    Raises
    ------
    StudyError
        The folder is no checkpoint, or there is nothing to rank.

    Examples
    --------
    >>> import rankscale_utils as rankscale
    >>> rankscale.rerank("no/folder", "parse a date", ["Return a date.", "Close the file."])
    Traceback (most recent call last):
    rankscale_utils.errors.StudyError: no/folder is no checkpoint that a study wrote, or it is damaged (it has no \
config.json): name a folder such as runs/demo/listwise-w8-s0/exposure-000007680.
    """
    folder, texts = folder.resolve() if folder.is_dir() else folder, documents
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model, tokenizer = _opened(folder, _changed(folder), place)
    scores = _scores(model, tokenizer, query, list(texts.values()), score)
    table = pd.DataFrame({"document_id": list(texts), "score": scores, "text": list(texts.values())})
    table = table.sort_values("score", ascending=False, kind="stable", ignore_index=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table


def _changed(folder: Path) -> int | None:
    weights = folder / "model.safetensors"
    return weights.stat().st_mtime_ns if weights.is_file() else None


@lru_cache(maxsize=1)
def _opened(folder: Path, changed: int | None, device: torch.device) -> tuple[Model, StudyTokenizer]:
    """Return a checkpoint's model and tokenizer; `changed`, when its weights were written, asks for them anew."""
    model = model_of_folder(folder)
    return model.to(device), StudyTokenizer.load(folder)


def _scores(model: Model, tokenizer: StudyTokenizer, query: str, texts: list[str], score: str) -> np.ndarray:
    """Return the score of every text: (texts,)."""
    longest = tokenizer.pair_tokens
    query_tokens = tokenizer.query_tokens or longest
    queries = Texts.encoded(tokenizer, [*tokenizer.queries([query])], query_tokens)
    documents = Texts.encoded(tokenizer, [*tokenizer.documents(texts)], longest)
    rows = np.arange(len(texts))
    if isinstance(model, CrossEncoder):
        return score_pairs(model, Pairs(queries, documents, tokenizer), np.zeros_like(rows), rows)
    if isinstance(model, BiEncoder):
        of_query, of_document = tokenizer.layout.apart(longest, tokenizer.query_tokens)
        asked = embed(model, Singles(queries, tokenizer, of_query), np.array([0]), of_queries=True)
        return embed(model, Singles(documents, tokenizer, of_document), rows) @ asked[0]
    return _ed2lm_scores(model, queries, Singles(documents, tokenizer, model.setting.document_tokens, "end"), score)


@torch.inference_mode()
def _ed2lm_scores(model: Ed2lm, query: Texts, documents: Singles, score: str) -> np.ndarray:
    rows, device = np.arange(len(documents.texts.starts) - 1), model.t5.shared.weight.device
    asked = Singles(query, documents.tokenizer, int(query.starts[-1]), "none").batch(np.array([0]))
    scores = np.empty(len(rows), np.float32)
    for places in of_like_length(documents.lengths(rows), tokens_together(model.t5)):
        ids, mask = (part.to(device).expand(len(places), -1) for part in asked)
        reading = model(*documents.batch(places), ids, mask, likelihood=score != "true_false")
        scores[places] = reading.scores(score).cpu().numpy()
    return scores
