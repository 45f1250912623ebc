"""How seconds and memory of scoring grow with the number of pairs, their length and the model's size.

python -m benchmarks.growth [--repeats 3]
Texts are random, all of one length; every point runs in a process of its own, whose highest memory is read at its end.
"""

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertModel

from benchmarks import common
from rankscale_utils.collections.tokens import SPECIAL, StudyTokenizer, train_tokenizer
from rankscale_utils.evaluation.random_lengths import random_pairs
from rankscale_utils.models.cross_encoder import CrossEncoder
from rankscale_utils.scoring.pairs import score_pairs

QUERY = 12  # tokens


@dataclass(frozen=True)
class Point:
    """What is scored: so many pairs of so many tokens, by a BERT of so many layers and this hidden size."""

    pairs: int
    tokens: int
    layers: int
    hidden: int


BASE = Point(1000, 64, 2, 64)
SERIES = {
    "pairs": [replace(BASE, pairs=pairs) for pairs in (1_000, 3_000, 10_000, 30_000, 100_000)],
    "tokens": [replace(BASE, tokens=tokens) for tokens in (32, 64, 128, 256, 512)],
    "hidden": [replace(BASE, pairs=200, hidden=hidden) for hidden in (64, 128, 256, 512, 1024)],
}


def measured(point: Point, repeats: int) -> float:
    """Return the median seconds of scoring."""
    torch.manual_seed(0)
    words = train_tokenizer(["some words to begin with"], 1000)
    pairs = random_pairs(StudyTokenizer(words, SPECIAL, point.tokens), 100, QUERY, 1000, point.tokens - QUERY - 3)
    shape = {"hidden_size": point.hidden, "num_hidden_layers": point.layers, "intermediate_size": 4 * point.hidden}
    config = BertConfig(**shape, vocab_size=1000, num_attention_heads=point.hidden // 32)
    model = CrossEncoder(BertModel(config, add_pooling_layer=False), reads="cls").eval()
    rows = np.arange(point.pairs)
    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        score_pairs(model, pairs, rows % 100, rows % 1000)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def alone(measure: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Return what a function returns in a process of its own, and the highest memory of it or a child of it in MB."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_with_memory, measure, *arguments).result()


def _with_memory(measure: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    result = measure(*arguments)
    processes = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return result, max(resource.getrusage(who).ru_maxrss for who in processes) / 1024


def slope(sizes: list[int], seconds: list[float]) -> float:
    """Return the slope of a line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def of(name: str, points: Sequence[Any], measure: Callable[..., float], repeats: int) -> str:
    """Return the table of points that differ in one field, of that name, and how seconds grow with it."""
    sizes = [getattr(point, name) for point in points]
    seconds, memory = zip(*(alone(measure, point, repeats) for point in points), strict=True)
    rows = [
        {name: f"{size:,}", "seconds": f"{one:.3g}", "highest memory, MB": f"{most:,.0f}"}
        for size, one, most in zip(sizes, seconds, memory, strict=True)
    ]
    grown = f"Seconds grow with {name} to the power of {slope(sizes, seconds):.2f}"
    return f"{grown}; between the last two, {slope(sizes[-2:], seconds[-2:]):.2f}.\n\n{common.table(rows)}"


def main() -> None:
    """Measure every series and publish its table and slope."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    parts = [of(name, points, measured, repeats) for name, points in SERIES.items()]
    base = f"{BASE.pairs:,} pairs of {BASE.tokens} tokens, BERT of {BASE.layers} layers and hidden size {BASE.hidden}"
    common.publish(
        "Growth", f"Scoring; what does not vary is {base} (200 pairs where size varies).\n\n" + "\n\n".join(parts)
    )


if __name__ == "__main__":
    main()
