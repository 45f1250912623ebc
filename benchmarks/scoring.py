"""Scoring pairs of natural length: ours against sentence-transformers and a plain loop, the same random weights.

python -m benchmarks.scoring [--pairs 1000] [--repeats 5] [--shapes MiniLM-L6 Ettin-17M …]
Every side starts from the words of the pairs and ends with their scores; repeats take turns. Beside a GPU all sides
compute there in bfloat16, and int8 and bf16, which are the CPU's, are left out.
"""

import argparse
import tempfile
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import sentence_transformers
import torch
from transformers import AutoTokenizer

from benchmarks import common
from rankscale_utils.models.checkpoint import save_checkpoint
from rankscale_utils.models.counts import pass_flops
from rankscale_utils.models.cross_encoder import CrossEncoder
from rankscale_utils.scoring.packed import bf16_pays, in_bf16, in_int8
from rankscale_utils.scoring.pairs import score_pairs

BATCHES = (
    (16, 32, 64, 128) if common.DEVICE.type == "cpu" else (32, 64, 128, 256, 512)
)  # of sentence-transformers, of which the fastest is its best setting
MATRIX = 4096


def ours(model: CrossEncoder, found: common.Corpus, tokens: common.StudyTokenizer) -> np.ndarray:
    """Return our scores: texts are tokenised once each, batches are flat, layers packed."""
    return score_pairs(model, common.tokenised(found, tokens), found.query_rows, found.document_rows)


@torch.inference_mode()
def plain(model: CrossEncoder, reader: AutoTokenizer, texts: list[tuple[str, str]]) -> np.ndarray:
    """Return the scores of a loop over padded batches in the order given."""
    scores = []
    for begin in range(0, len(texts), 32):
        queries, documents = zip(*texts[begin : begin + 32], strict=True)
        settings = {"padding": True, "truncation": "only_second", "max_length": common.TOKENS, "return_tensors": "pt"}
        batch = reader(list(queries), list(documents), **settings)
        states = model.encoder(**batch.to(common.DEVICE)).last_hidden_state
        scores.append(model.head(states[:, 0]).squeeze(-1))
    return torch.cat(scores).float().cpu().numpy()


def matrix_rate() -> float:
    """Return the FLOP/s of a large matrix product on the same device."""
    matrix = torch.randn(MATRIX, MATRIX).to(common.DEVICE, common.DTYPE)
    (seconds,) = common.in_turns({"product": lambda: (matrix @ matrix)[0, 0].item()}, 3).values()  # once it is there
    return 2 * MATRIX**3 / min(seconds)


def of_shape(shape: str, found: common.Corpus, tokens: common.StudyTokenizer, repeats: int, folder: Path) -> dict:
    """Return a shape's row of the table."""
    torch.manual_seed(0)
    model = CrossEncoder(common.encoder(shape, common.VOCABULARY), reads="cls").eval()
    torch.nn.init.normal_(model.head.weight)
    written = folder / "tokens"
    written.mkdir()
    tokens.save(written)
    save_checkpoint(model, folder / "model", written)
    theirs = sentence_transformers.CrossEncoder(str(folder / "model"), device=str(common.DEVICE)).to(common.DTYPE)
    reader, texts = AutoTokenizer.from_pretrained(folder / "model"), found.texts()
    looped = CrossEncoder(common.encoder(shape, common.VOCABULARY), reads="cls").eval()
    looped.load_state_dict(model.state_dict())
    looped.encoder.set_attn_implementation("sdpa")
    on_cpu, smaller = common.DEVICE.type == "cpu", {"int8": in_int8, "bf16": in_bf16}
    kinds = [kind for kind in smaller if on_cpu and (kind == "int8" or bf16_pays(model))]
    rounded = {kind: partial(ours, smaller[kind](model), found, tokens) for kind in kinds}
    for one in (model, looped):
        one.to(common.DEVICE, common.DTYPE)
    sides = {
        "ours": partial(ours, model, found, tokens),
        **rounded,
        "plain": partial(plain, looped, reader, texts),
        **{f"predict {size}": partial(theirs.predict, texts, batch_size=size) for size in BATCHES},
    }
    tolerance = 0.1 if common.DEVICE.type == "cuda" else 1e-4
    assert np.allclose(sides["ours"](), sides["predict 32"](), atol=tolerance), "the sides score differently"
    seconds = common.in_turns(sides, repeats)
    best = min((f"predict {size}" for size in BATCHES), key=lambda name: np.median(seconds[name]))
    lengths = common.tokenised(found, tokens).lengths(found.query_rows, found.document_rows)
    reached = pass_flops(model).forward(lengths).sum() / np.array(seconds["ours"])
    row = {
        "shape": shape,
        "ours, pairs/s": common.span([len(texts) / one for one in seconds["ours"]]),
        "`CrossEncoder.predict`": common.ratio(seconds["predict 32"], seconds["ours"]),
        f"its best setting (of batches {', '.join(map(str, BATCHES))})": (
            f"{common.ratio(seconds[best], seconds['ours'])} ({best.split()[1]})"
        ),
        "plain loop, padded": common.ratio(seconds["plain"], seconds["ours"]),
        "of the matrix product's FLOP/s": f"{np.median(reached) / matrix_rate():.0%}",
    }
    return row | {f"{kind} against ours": common.ratio(seconds["ours"], seconds[kind]) for kind in rounded}


def main() -> None:
    """Measure the shapes asked for and publish their table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--shapes", nargs="+", default=["MiniLM-L6", "Ettin-17M"], choices=common.SHAPES)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    found = common.corpus(arguments.pairs)
    tokens, rows = common.tokenizer(found), []
    for shape in arguments.shapes:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(of_shape(shape, found, tokens, arguments.repeats, Path(folder)))
    lengths = common.tokenised(found, tokens).lengths(found.query_rows, found.document_rows)
    common.publish(
        f"Scoring: {', '.join(arguments.shapes)}",
        f"{arguments.pairs:,} pairs ({found.name}; {lengths.mean():.0f} tokens, {lengths.min()} to {lengths.max()}), "
        f"from words to scores, {common.precision()} but for int8, random weights. Ratios say how many times longer "
        f"the other side takes; medians of {arguments.repeats} repeats in turns, with their range. FLOPs are counted "
        "as if every layer computed all tokens.\n\n" + common.table(rows),
    )


if __name__ == "__main__":
    main()
