"""How long a query's reranking takes at T5-base shape, ED2LM against reading query and document together.

python -m benchmarks.ed2lm [--length 512] [--repeats 3] [--slow 10] [--dtype float32] [--threads 2] [--profile]
Weights and document states are random, which time does not feel. Each variant is timed once a round, in turns; BERT's
layers are packed for the CPU's matrix library, as they are while we score.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import BertConfig, BertModel, T5Config

from benchmarks.common import publish
from rankscale_utils.models.counts import pass_flops
from rankscale_utils.models.cross_encoder import CrossEncoder
from rankscale_utils.models.ed2lm import Ed2lm, Setting, build_ed2lm
from rankscale_utils.models.ed2lm_counts import Work, cross_attention_flops, decoder_flops, full_flops
from rankscale_utils.scoring.cross_attention import CandidateGroup, Candidates
from rankscale_utils.scoring.decoder import DecoderScorer
from rankscale_utils.scoring.document_states import DocumentStates
from rankscale_utils.scoring.packed import packed

K, QUERY = 100, 12
BERT_TOKENS = 512  # BERT takes no more, special tokens included
BASE = T5Config(
    vocab_size=32128, d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12, decoder_start_token_id=0
)
AGAINST = ("T5 cross-attention", "BERT-base cross-encoder")


@dataclass(frozen=True)
class Variant:
    """What is timed: its work, on how many documents, and its floating-point operations a pair."""

    name: str
    run: Callable[[], object]
    documents: int
    flops: float


def ids(*shape: int) -> torch.Tensor:
    """Random token ids."""
    return torch.randint(2, 30000, shape)


def together(t5: Ed2lm, bert: CrossEncoder, length: int, slow: int) -> list[Variant]:
    """Models that run an encoder for every pair, T5 as transformers has it and BERT as ours, on `slow` documents."""
    joint, document, query = ids(slow, QUERY + length), ids(slow, length), ids(slow, QUERY + 1)
    pair = ids(slow, min(QUERY + length + 3, BERT_TOKENS))
    work = Work(QUERY, length)

    def read(text: torch.Tensor, written: torch.Tensor) -> object:
        mask = torch.ones_like(text)
        return t5.t5(input_ids=text, attention_mask=mask, decoder_input_ids=written, use_cache=False)

    joint_cost, full_cost = cross_attention_flops(BASE, work), full_flops(BASE, work)
    pair_cost = float(pass_flops(bert).forward(np.array(pair.shape[1])))
    return [
        Variant(AGAINST[0], lambda: read(joint, query[:, :1]), slow, joint_cost),
        Variant("ED2LM in full", lambda: read(document, query), slow, full_cost),
        Variant(AGAINST[1], lambda: bert(pair, torch.ones_like(pair)), slow, pair_cost),
    ]


def apart(t5: Ed2lm, dtype: torch.dtype, length: int) -> list[Variant]:
    """The decoder over stored states, held in memory."""
    query = ids(QUERY)
    states = torch.randn(1, K, length, BASE.d_model, dtype=dtype)
    keys_values = torch.randn(2 * BASE.num_layers, K, length, BASE.d_model, dtype=dtype)
    scorers = {way: DecoderScorer(t5, way, dtype) for way in ("on_the_fly", "stored", "absorbed")}

    def variant(name: str, way: str, parts: torch.Tensor, pooling: int = 1, kind: str = "true_false") -> Variant:
        candidates = Candidates([CandidateGroup(parts, None)], torch.arange(K))
        cost = decoder_flops(BASE, Work(QUERY, length, K, pooling, kind), way)
        return Variant(name, lambda: scorers[way].score(query, candidates, kind), K, cost)

    pooled = {r: states[:, :, : length // r].contiguous() for r in (2, 4, 8)}
    return [
        variant("on the fly", "on_the_fly", states),
        variant("stored keys and values", "stored", keys_values),
        variant("absorbed", "absorbed", states),
        variant("absorbed, log-likelihood", "absorbed", states, kind="log_likelihood"),
        *(variant(f"absorbed, pooled {r}", "absorbed", parts, r) for r, parts in pooled.items()),
    ]


def from_disk(t5: Ed2lm, dtype: torch.dtype, length: int, folder: Path) -> list[Variant]:
    """The decoder over a memory-mapped store, reading included; pages are in the system's cache after the warm-up."""
    query, wanted = ids(QUERY), np.random.default_rng(0).permutation(K)
    work = Work(QUERY, length, K)

    def variant(name: str, way: str, parts: int, precision: str) -> Variant:
        store, scorer = random_store(folder / f"{name}.npy", length, parts, precision), DecoderScorer(t5, way, dtype)
        return Variant(name, lambda: scorer.score(query, store.read(wanted, dtype)), K, decoder_flops(BASE, work, way))

    return [
        variant("absorbed, float16 store", "absorbed", 1, "float16"),
        variant("absorbed, int8 store", "absorbed", 1, "int8"),
        variant("stored keys and values, float16 store", "stored", 2 * BASE.num_layers, "float16"),
    ]


def random_store(path: Path, length: int, parts: int, precision: str) -> DocumentStates:
    """A store of K documents of this length."""
    rows = np.lib.format.open_memmap(path, "w+", precision, (K * length, parts, BASE.d_model))
    one = torch.randn(length, parts, BASE.d_model).mul_(20 if precision == "int8" else 1).to(getattr(torch, precision))
    for document in range(K):
        rows[document * length : (document + 1) * length] = one.numpy()
    scales = np.full(rows.shape[:2], 0.05, np.float32) if precision == "int8" else None
    return DocumentStates({}, rows, np.arange(K + 1) * length, scales)


@torch.inference_mode()
def measure(variants: list[Variant], repeats: int) -> pd.DataFrame:
    """Seconds a query of K documents, one row a round and one column a variant; a first round is discarded."""
    rounds = []
    for repeat in range(repeats + 1):
        seconds = {}
        for variant in variants:
            began = time.perf_counter()
            variant.run()
            seconds[variant.name] = (time.perf_counter() - began) * K / variant.documents
        rounds.append(seconds)
        print(f"round {repeat}: " + ", ".join(f"{s:.2f}" for s in seconds.values()), flush=True)
    return pd.DataFrame(rounds[1:])


def summary(seconds: pd.DataFrame, variants: list[Variant]) -> pd.DataFrame:
    """Each variant's seconds, median [range], and how much faster it is than AGAINST, in time and by count."""
    cost = pd.Series({variant.name: variant.flops for variant in variants})
    table = pd.DataFrame({"s/query": [spread(seconds[name]) for name in cost.index]}, index=cost.index)
    for other in AGAINST:
        table[f"× {other}"] = [spread(seconds[other] / seconds[name]) for name in cost.index]
        table[f"counted × {other}"] = (cost[other] / cost).round(1)
    return table.assign(**{"GFLOPs/pair": (cost / 1e9).round(2)})


def spread(values: pd.Series) -> str:
    """Median [lowest, highest]."""
    return f"{values.median():.2f} [{values.min():.2f}, {values.max():.2f}]"


def profile(variant: Variant) -> None:
    """Print where a variant's time goes."""
    with torch.profiler.profile() as profiled, torch.inference_mode():
        variant.run()
    print(f"{variant.name}:\n{profiled.key_averages().table(sort_by='self_cpu_time_total', row_limit=10)}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--slow", type=int, default=10, help="documents for variants that encode, whose time is scaled")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--profile", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    dtype, length = getattr(torch, chosen.dtype), chosen.length
    t5 = build_ed2lm(BASE, Setting(1, 2, length)).to(dtype).eval()
    bert = CrossEncoder(BertModel(BertConfig(), add_pooling_layer=False)).to(dtype).eval()
    with tempfile.TemporaryDirectory() as folder:
        variants = [*together(t5, bert, length, chosen.slow), *apart(t5, dtype, length)]
        variants += from_disk(t5, dtype, length, Path(folder))
        with packed(bert):
            table = summary(measure(variants, chosen.repeats), variants)
        for variant in variants:
            if chosen.profile and variant.name in ("absorbed", "stored keys and values"):
                profile(variant)
    publish(
        f"ED2LM, documents of {length} tokens",
        f"One query of {QUERY} tokens and {K} documents at T5-base's shape, {chosen.dtype}, random weights; variants "
        f"that encode read {chosen.slow} documents, and their time is scaled. × says how many times longer the other "
        f"takes, and how many by count; medians of {chosen.repeats} rounds in turns, with their range.\n\n"
        + table.to_markdown(),
    )


if __name__ == "__main__":
    main()
