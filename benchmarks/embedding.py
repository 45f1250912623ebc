"""Embedding passages of natural length with a bi-encoder: ours against sentence-transformers, the same weights.

python -m benchmarks.embedding [--texts 500] [--repeats 5] [--shapes MiniLM-L6 Ettin-17M …]
Both start from words and end with embeddings of length one; repeats take turns. Weights are random.
"""

import argparse
import tempfile
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

from benchmarks import common
from rankscale_utils.collections.singles import Singles
from rankscale_utils.collections.tokens import StudyTokenizer, Texts
from rankscale_utils.models.published import Published, read_published
from rankscale_utils.scoring.embeddings import embed

BATCHES = (8, 16, 32, 64)  # that `encode` is tried with
TRIED = 150  # texts with which they are tried
AS_IT_COMES = 32  # texts in a batch of `encode`
LONGEST = 256  # tokens, as all-MiniLM-L6-v2 reads them
TOLERANCE = 1e-5


def passages(count: int) -> list[str]:
    """Return real passages of natural length in random order."""
    found = common.corpus(count)
    return [found.documents[row] for row in found.document_rows]


def write_bi_encoder(shape: str, words: list[str], folder: Path) -> SentenceTransformer:
    """Write a bi-encoder of a shape with random weights as sentence-transformers has it, and return that."""
    torch.manual_seed(0)
    common.encoder(shape, common.VOCABULARY).save_pretrained(folder / "encoder")
    common.tokenizer(common.Corpus("passages", [], words, np.array([]), np.array([]))).save(folder / "encoder")
    transformer = Transformer(str(folder / "encoder"), max_seq_length=LONGEST)
    modules = [transformer, Pooling(common.SHAPES[shape][2], "mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "model"))
    return SentenceTransformer(str(folder / "model"), device="cpu")


def ours(published: Published, words: list[str]) -> np.ndarray:
    """Return our embeddings of texts: flat batches, packed layers."""
    longest = published.apart[1]
    tokenizer = StudyTokenizer(published.tokenizer, published.special, longest, segments=published.segments)
    singles = Singles(Texts.encoded(tokenizer, words, longest), tokenizer, longest)
    with common.kept_memory():
        return embed(published.model, singles, np.arange(len(words)))


def of_shape(shape: str, words: list[str], repeats: int) -> list[dict[str, object]]:
    """Return a row for ours, for `encode` as it comes and for it with the batches that it is fastest with."""
    with tempfile.TemporaryDirectory() as name:
        theirs = write_bi_encoder(shape, words, Path(name))
        published = read_published("embedding", f"{name}/model")

    def encode(size: int, texts: list[str] = words) -> np.ndarray:
        return theirs.encode(texts, batch_size=size, normalize_embeddings=True)

    tried = common.in_turns({size: partial(encode, size, words[:TRIED]) for size in BATCHES}, 1)
    best = min(BATCHES, key=lambda size: min(tried[size]))
    sides = {
        "ours": partial(ours, published, words),
        f"`encode`, batches of {AS_IT_COMES}": partial(encode, AS_IT_COMES),
        f"`encode` at its best, batches of {best}": partial(encode, best),
    }
    first, *others = (side() for side in sides.values())
    assert all(np.allclose(first, other, atol=TOLERANCE) for other in others), "theirs embeds differently"
    seconds = common.in_turns(sides, repeats)
    return [
        {
            "shape": shape,
            "side": side,
            "texts/s": common.span([len(words) / one for one in taken]),
            "times as long as ours": common.ratio(taken, seconds["ours"]),
        }
        for side, taken in seconds.items()
    ]


def main() -> None:
    """Measure the shapes asked for and publish one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--shapes", nargs="+", default=["MiniLM-L6", "Ettin-17M"], choices=common.SHAPES)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    words = passages(arguments.texts)
    rows = [row for shape in arguments.shapes for row in of_shape(shape, words, arguments.repeats)]
    common.publish(
        "Embedding",
        f"{arguments.texts:,} passages of natural length, cut at {LONGEST} tokens, from words to embeddings in "
        f"float32, equal to {TOLERANCE:g}: medians of {arguments.repeats} repeats in turns, with their range. Weights "
        "are random."
        f"\n\n{common.table(rows)}",
    )


if __name__ == "__main__":
    main()
