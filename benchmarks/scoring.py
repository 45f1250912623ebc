"""Scoring pairs of natural length: ours against what a user would pick instead, the same weights.

python -m benchmarks.scoring [--pairs 300] [--repeats 5] [--shapes MiniLM-L6 Ettin-17M …] [--checkpoint FOLDER]
Every side starts from the words of the pairs and ends with their scores; repeats take turns. Weights are random, or
those of a trained cross-encoder, whose nDCG@10 is then compared too where the texts are TREC DL's. Beside a GPU all
sides compute there in bfloat16, and what is the CPU's alone is left out.
"""

import argparse
import copy
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import ir_measures
import numpy as np
import pandas as pd
import sentence_transformers
import torch
from scipy.stats import spearmanr
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from benchmarks import alternatives, common
from rankscale_utils.collections.tokens import StudyTokenizer
from rankscale_utils.models.checkpoint import model_of_folder, save_checkpoint
from rankscale_utils.models.counts import pass_flops
from rankscale_utils.models.cross_encoder import CrossEncoder
from rankscale_utils.scoring.packed import bf16_pays, in_bf16, in_int8
from rankscale_utils.scoring.pairs import score_pairs

ON_CPU = common.DEVICE.type == "cpu"
BATCHES = (8, 16, 32, 64) if ON_CPU else (32, 64, 128, 256, 512)  # that are tried of every alternative
TRIED = 100 if ON_CPU else 500  # pairs with which they are tried
AS_IT_COMES = 32  # pairs in a batch of `CrossEncoder.predict`
JUDGED_DEPTH = 30  # candidates of a judged query
MATRIX = 2048 if ON_CPU else 8192
TOLERANCE = 1e-4  # of scores in float32; in bfloat16 those of random weights lie within its rounding of each other
WHOLE = {"pair_tokens": common.TOKENS, "query_tokens": None}  # a trained model reads texts of natural length too
Scores = Callable[[common.Corpus], np.ndarray]


class Side(NamedTuple):
    """A way to score: what it computes in, the pairs of a batch or why it cannot run, and its scores of a corpus."""

    name: str
    numbers: str
    batch: str
    scores: Scores | None = None


def ours(model: CrossEncoder, tokens: StudyTokenizer, found: common.Corpus) -> np.ndarray:
    """Return our scores: texts are tokenised once each, batches are flat, layers packed."""
    with common.kept_memory():
        return score_pairs(model, common.tokenised(found, tokens), found.query_rows, found.document_rows)


def own_sides(model: CrossEncoder, tokens: StudyTokenizer) -> list[Side]:
    """Return ours, on a CPU in smaller numbers too; the model goes to the device."""
    kinds = {"bf16": in_bf16, "int8": in_int8} if ON_CPU else {}
    smaller = {kind: made(model) for kind, made in kinds.items() if kind == "int8" or bf16_pays(model)}
    models = {common.precision(): model.to(common.DEVICE, common.DTYPE), **smaller}
    return [Side("ours", numbers, "flat", partial(ours, one, tokens)) for numbers, one in models.items()]


def other_sides(model: CrossEncoder, found: common.Corpus, tokens: StudyTokenizer, folder: Path) -> list[Side]:
    """Return the alternatives, each with the batches that it is fastest with."""
    few, written = found.first(TRIED), folder / "tokens"
    written.mkdir()
    tokens.save(written)
    save_checkpoint(model, folder / "model", written)
    settings = {"device": str(common.DEVICE), "trust_remote_code": True}  # the code is our own
    theirs = sentence_transformers.CrossEncoder(str(folder / "model"), **settings).to(common.DTYPE)
    reader = AutoTokenizer.from_pretrained(folder / "model")

    def predict(size: int, of: common.Corpus) -> np.ndarray:
        return theirs.predict(of.texts(), batch_size=size, convert_to_numpy=True)

    name, numbers = "`CrossEncoder.predict`", common.precision()
    sides = [Side(name, numbers, f"{AS_IT_COMES}, as it comes", partial(predict, AS_IT_COMES))]
    sides.append(_fastest(name, numbers, predict, few))
    samples = [batch for _, batch in alternatives.padded(reader, few.first(alternatives.CALIBRATED).texts(), 1)]
    given = alternatives.Given(partial(copy.deepcopy, model), folder, samples)
    return sides + [_engine(one, given, reader, few) for one in alternatives.alternatives()]


def _engine(
    one: alternatives.Alternative, given: alternatives.Given, reader: PreTrainedTokenizerBase, few: common.Corpus
) -> Side:
    if hindrance := one.hindrance():
        return Side(one.name, one.numbers, hindrance)
    engine = one.made(given)
    return _fastest(one.name, one.numbers, lambda size, of: alternatives.scores(engine, reader, size, of.texts()), few)


def _fastest(name: str, numbers: str, scores: Callable[[int, common.Corpus], np.ndarray], few: common.Corpus) -> Side:
    """Return a side in the batches with which it scores a few pairs in least time."""
    seconds = common.in_turns({size: partial(scores, size, few) for size in BATCHES}, 1)
    best = min(BATCHES, key=lambda size: min(seconds[size]))
    return Side(name, numbers, str(best), partial(scores, best))


def compared(
    sides: Sequence[Side], found: common.Corpus, repeats: int, judged: bool
) -> tuple[list[dict[str, object]], list[float]]:
    """Return a row a side, all compared with the first, and the seconds that one took."""
    able = [side for side in sides if side.scores]
    scores = [side.scores(found) for side in able]
    for side, made in zip(able, scores, strict=True):
        alike = side.numbers != "float32" or np.allclose(made, scores[0], atol=TOLERANCE)
        assert alike, f"{side.name} scores differently"
    work = {str(place): partial(side.scores, found) for place, side in enumerate(able)}
    seconds = list(common.in_turns(work, repeats).values())
    of_ours = {side.numbers: taken for side, taken in zip(able, seconds, strict=True) if side.name == "ours"}
    spread, rows = scores[0].std(), {}
    for side, made, taken in zip(able, scores, seconds, strict=True):
        alike = of_ours.get(side.numbers)
        rows[side] = {
            "times as long as ours": common.ratio(taken, seconds[0]),
            "as ours in the same numbers": common.ratio(taken, alike) if alike else "–",
            "largest difference of scores, SD": f"{np.abs(made - scores[0]).max() / spread:.1g}",
            "rank correlation": f"{spearmanr(made, scores[0])[0]:.5f}",
        }
    if judged:
        qualities = {side: quality(side) for side in able}
        rows = {side: row | {"nDCG@10": f"{qualities[side]:.4f}"} for side, row in rows.items()}
    none = dict.fromkeys(rows[able[0]], "–")
    named = [{"side": side.name, "in": side.numbers, "pairs in a batch": side.batch} for side in sides]
    return [name | rows.get(side, none) for name, side in zip(named, sides, strict=True)], seconds[0]


def quality(side: Side) -> float:
    """Return the mean nDCG@10 of TREC DL's queries, whose first candidates a side ranks."""
    found, judgments = common.judged(JUDGED_DEPTH)
    rows = {"query_id": found.query_rows.astype(str), "doc_id": found.document_rows.astype(str)}
    run, measure = pd.DataFrame(rows | {"score": side.scores(found)}), ir_measures.nDCG @ 10
    return ir_measures.calc_aggregate([measure], judgments, run)[measure]


def of_model(
    model: CrossEncoder, found: common.Corpus, tokens: StudyTokenizer, repeats: int, folder: Path, judged: bool = False
) -> tuple[list[dict[str, object]], str]:
    """Return a row a side, and what is to be said of our speed."""
    others = other_sides(model, found, tokens, folder)
    rows, seconds = compared([*own_sides(model, tokens), *others], found, repeats, judged)
    lengths = common.tokenised(found, tokens).lengths(found.query_rows, found.document_rows)
    library, limit = matrix_rate()
    reached = pass_flops(model).forward(lengths).sum() / np.median(seconds)
    pairs = common.span([len(lengths) / taken for taken in seconds])
    return rows, (
        f"ours scores {pairs} pairs/s in {common.precision()} at {reached / limit:.0%} of the FLOP/s of a large matrix "
        f"product ({limit / 1e9:,.0f} GFLOP/s by {library}, the fastest here)"
    )


def matrix_rate() -> tuple[str, float]:
    """Return the library that multiplies large matrices fastest on the same device, and its FLOP/s."""
    matrix = torch.randn(MATRIX, MATRIX).to(common.DEVICE, common.DTYPE)
    sides = {"PyTorch": lambda: (matrix @ matrix)[0, 0].item()}  # once it is there
    if ON_CPU:
        array, weight = matrix.numpy(), torch.ops.mkldnn._reorder_linear_weight(matrix)
        packed = torch.ops.mkldnn._linear_pointwise
        sides |= {"NumPy": lambda: array @ array, "oneDNN": lambda: packed(matrix, weight, None, "none", [], "none")}
    seconds = {library: min(taken) for library, taken in common.in_turns(sides, 3).items()}
    fastest = min(seconds, key=seconds.get)
    return fastest, 2 * MATRIX**3 / seconds[fastest]


def of_shape(shape: str) -> CrossEncoder:
    """Return a cross-encoder of a shape with random weights."""
    torch.manual_seed(0)
    model = CrossEncoder(common.encoder(shape, common.VOCABULARY), reads="cls").eval()
    torch.nn.init.normal_(model.head.weight)
    return model


def main() -> None:
    """Measure the shapes asked for, or one trained model, and publish a table of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--shapes", nargs="+", default=["MiniLM-L6", "Ettin-17M"], choices=common.SHAPES)
    parser.add_argument("--checkpoint", type=Path, help="a trained cross-encoder's folder")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    found = common.corpus(arguments.pairs)
    trained = arguments.checkpoint
    tokens = common.tokenizer(found) if trained is None else replace(StudyTokenizer.load(trained), **WHOLE)
    for name in arguments.shapes if trained is None else ["trained weights"]:
        model = of_shape(name) if trained is None else model_of_folder(trained)
        with tempfile.TemporaryDirectory() as folder:
            judged = trained is not None and common.TREC_DL.is_dir()
            rows, speed = of_model(model, found, tokens, arguments.repeats, Path(folder), judged)
        lengths = common.tokenised(found, tokens).lengths(found.query_rows, found.document_rows)
        quality = f" nDCG@10 is of TREC DL's queries with BM25's first {JUDGED_DEPTH} passages." if judged else ""
        common.publish(
            f"Scoring: {name}",
            f"{arguments.pairs:,} pairs ({found.name}; {lengths.mean():.0f} tokens, {lengths.min()} to "
            f"{lengths.max()}), from words to scores; {speed}. Ratios say how many times as long as ours in "
            f"{common.precision()}, or in the same numbers, a side takes: medians of {arguments.repeats} repeats in "
            "turns, with their range. Others read batches sorted by length, of the size of which they are fastest "
            f"({', '.join(map(str, BATCHES))}). Scores are compared with the first row's, in their standard "
            f"deviations.{quality}\n\n{common.table(rows)}",
        )


if __name__ == "__main__":
    main()
