"""What a decoder saves by reading the query once for all candidates, when it scores and when it trains.

python -m benchmarks.shared_queries [--repeats 3] [--queries 3] [--shapes SmolLM2-135M …] [--layers 4]
Candidates are real and of natural length; weights are random, which time does not feel, and few layers of each shape
are timed, as all layers take the same time. transformers' own padded forward pass of the same pairs, sorted by length
in batches of 16, stands beside it; all three must give the same scores.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks import common
from rankscale_utils.collections.tokens import Batch, Pairs
from rankscale_utils.models.decoder import DecoderReranker
from rankscale_utils.models.prompt import lay_out
from rankscale_utils.scoring.packed import packed
from rankscale_utils.study.decoder import PROMPTS

SHAPES = {  # model type, hidden size, feed-forward size, heads, heads of keys, head size
    "SmolLM2-135M": ("llama", 576, 1536, 9, 3, 64),
    "Qwen3-0.6B": ("qwen3", 1024, 3072, 16, 8, 128),
}
SPECIAL = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]  # of Qwen3's prompt
CANDIDATES = 20
PADDED = 16  # pairs of a padded batch


def language_model(shape: str, layers: int) -> torch.nn.Module:
    """Return a language model of a shape with random weights and a small vocabulary's rows, scored by two words."""
    kind, hidden, intermediate, heads, of_keys, size = SHAPES[shape]
    settings = {"hidden_size": hidden, "intermediate_size": intermediate, "num_attention_heads": heads}
    settings |= {"num_key_value_heads": of_keys, "head_dim": size, "num_hidden_layers": layers}
    special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0)
    settings |= {"vocab_size": common.VOCABULARY + len(SPECIAL), "tie_word_embeddings": True}
    config = AutoConfig.for_model(kind, **settings, **special)
    config.verdict = (10, 11)
    return AutoModelForCausalLM.from_config(config)


def batches(queries: int, prompt: str) -> tuple[list[Batch], list[int]]:
    """Return the candidates of each of some queries as a batch in a prompt, and how many tokens all share."""
    found = common.corpus(20_000)
    tokens = common.tokenizer(found)
    tokens.tokenizer.add_special_tokens(SPECIAL)
    lay_out(tokens.tokenizer, prompt)
    pairs: Pairs = common.tokenised(found, replace(tokens, segments=False))
    asked, counts = np.unique(found.query_rows, return_counts=True)
    made = []
    for query in asked[counts >= CANDIDATES][:queries]:
        documents = np.unique(found.document_rows[found.query_rows == query])[:CANDIDATES]
        made.append(pairs.batch(np.full(len(documents), query), documents))
    return made, [int(batch.of_query[0]) * (len(batch.of_query) - 1) for batch in made]


@torch.inference_mode()
def padded(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Return what transformers makes of a batch's pairs, sorted by length and padded."""
    lengths, scores = batch.attention_mask.sum(1), torch.empty(len(batch.input_ids))
    relevant, other = model.config.verdict
    for places in torch.argsort(lengths).split(PADDED):
        width = int(lengths[places].max())
        ids, mask = batch.input_ids[places, :width], batch.attention_mask[places, :width]
        states = model.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        last = model.lm_head(states[torch.arange(len(places)), lengths[places] - 1])
        scores[places] = last[:, relevant] - last[:, other]
    return scores


def measure(shape: str, prompt: str, queries: int, layers: int, repeats: int) -> dict[str, str]:
    """Return a row of the table: how many times as fast, and how many tokens fewer."""
    torch.manual_seed(0)
    theirs, (made, saved) = language_model(shape, layers).eval(), batches(queries, PROMPTS[prompt])
    expected = torch.cat([padded(theirs, batch) for batch in made])
    ours = DecoderReranker.of(theirs)
    apart = [batch._replace(of_query=torch.zeros_like(batch.of_query)) for batch in made]

    def scoring(these: list[Batch]) -> torch.Tensor:
        with torch.inference_mode():
            return torch.cat([ours(*batch) for batch in these])

    def training(these: list[Batch]) -> None:
        ours.zero_grad()
        for batch in these:
            ours(*batch).sum().backward()

    for these in (apart, made):
        torch.testing.assert_close(scoring(these), expected, atol=1e-4, rtol=0)
    plain = language_model(shape, layers).eval()
    sides: dict[str, Callable[[], object]] = {"apart": lambda: scoring(apart), "shared": lambda: scoring(made)}
    with packed(ours):
        seconds = common.in_turns({"padded": lambda: [padded(plain, batch) for batch in made]} | sides, repeats)
    steps = common.in_turns({"apart": lambda: training(apart), "shared": lambda: training(made)}, repeats)
    tokens = sum(int(batch.attention_mask.sum()) for batch in made)
    return {
        "shape": shape,
        "prompt": prompt,
        "tokens of a pair": f"{tokens / len(expected):.0f}",
        "of which shared": f"{made[0].of_query.float().mean():.0f}",
        "tokens saved": f"{sum(saved) / tokens:.0%}",
        "scoring: query once / apart": common.ratio(seconds["apart"], seconds["shared"]),
        "scoring: query once / padded": common.ratio(seconds["padded"], seconds["shared"]),
        "training: query once / apart": common.ratio(steps["apart"], steps["shared"]),
    }


def main() -> None:
    """Measure every shape and prompt, and publish the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--queries", type=int, default=3)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES))
    given = parser.parse_args()
    rows = [
        measure(shape, prompt, given.queries, given.layers, given.repeats)
        for shape in given.shapes
        for prompt in PROMPTS
    ]
    head = f"{given.queries} queries with {CANDIDATES} candidates each, {given.layers} layers of each shape."
    common.publish("Decoders that read the query once", f"{head} How many times as fast:\n\n{common.table(rows)}")


if __name__ == "__main__":
    main()
