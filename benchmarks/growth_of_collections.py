"""How seconds and memory of a study's stages grow with its collection, up to a million passages.

python -m benchmarks.growth_of_collections [--passages 10000 100000 1000000]
Passages are random words, as common as Zipf has it, and a query is some rare words of its relevant passage: files that
are indexed by BM25, tokenised, trained on and evaluated as a user's own. Every stage is a process of its own.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml

from benchmarks import common, growth
from rankscale_utils.collections import open_collection
from rankscale_utils.evaluation.evaluate import evaluate_run
from rankscale_utils.study.loading import load_study
from rankscale_utils.training.run import train

PASSAGES = (10_000, 100_000, 1_000_000)
WORDS, VOCABULARY = 40, 100_000
TRAINING, TESTED, TRAINED, DEPTH = 1_800, 200, 8_000, 100  # queries, pairs, candidates


def form(part: str) -> dict[str, str]:
    """Return the part's files: its queries and judgments, and the documents that all share."""
    return {"documents": "documents.jsonl", "queries": f"{part}.tsv", "judgments": f"{part}.qrels"}


STUDY = {
    "collection": form("train"),
    "text": {"vocabulary": 8192, "query_tokens": 12, "pair_tokens": 96},
    "ladder": {f"w{hidden}": {"hidden": hidden} for hidden in (16, 24, 32, 48)},
    "objectives": {"listwise": {"seeds": [0], "learning_rate": {"base": 3.0e-3}}},
    "training": {"exposures": [TRAINED], "warmup_steps": 5},
    "evaluation": {"depth": DEPTH, "tests": {"test": form("test")}},
    "held_out": {"rungs": ["w48"]},
}
STAGES = ("prepare", "train", "evaluate")


def texts(passages: int) -> Iterator[tuple[str, str]]:
    """Yield passages, each with a query of five of its rarer words."""
    random = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    vocabulary = np.array(["".join(word) for word in letters[random.integers(26, size=(VOCABULARY, 6))]])
    for _ in range(passages // 1000):
        ranks = np.minimum(random.zipf(1.3, size=(1000, WORDS)), VOCABULARY) - 1
        rarest = np.sort(ranks, axis=1)[:, -10::2]
        yield from zip(*(map(" ".join, vocabulary[words]) for words in (ranks, rarest)), strict=True)


def write(folder: Path, passages: int) -> Path:
    """Write a collection of so many passages and a study of it; return the study's file."""
    asked = {part: ([], []) for part in ("train", "test")}
    with open(folder / "documents.jsonl", "w", encoding="utf-8") as documents:
        for row, (passage, query) in enumerate(texts(passages)):
            documents.write(json.dumps({"id": f"d{row}", "text": passage}) + "\n")
            if row < TRAINING + TESTED:
                queries, judgments = asked["train" if row < TRAINING else "test"]
                queries.append(f"q{row}\t{query}\n")
                judgments.append(f"q{row} 0 d{row} 1\n")
    for part, (queries, judgments) in asked.items():
        (folder / form(part)["queries"]).write_text("".join(queries), encoding="utf-8")
        (folder / form(part)["judgments"]).write_text("".join(judgments), encoding="utf-8")
    (folder / "growth.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    return folder / "growth.yaml"


def measured(stage: str, file: Path) -> float:
    """Return the seconds of a stage of the study's smallest run, after the stages before it."""
    study = load_study(str(file))
    run = study.runs[0]
    began = time.perf_counter()
    collection = open_collection(study)
    if stage == "train":
        began = time.perf_counter()
        train(study, run, collection, common.DEVICE)
    elif stage == "evaluate":
        began = time.perf_counter()
        evaluate_run(study, run, collection, common.DEVICE)
    return time.perf_counter() - began


def row(passages: int) -> dict[str, str]:
    """Return a row of the table: what each stage of a study of so many passages takes, and its highest memory."""
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        os.environ["RANKSCALE_ROOT"] = folder
        file = write(Path(folder), passages)
        bytes_of_text = (file.parent / form("test")["documents"]).stat().st_size
        stages = {stage: growth.alone(measured, stage, file) for stage in STAGES}
    (prepared, _), (trained, _), (evaluated, _) = stages.values()
    return {
        "passages": f"{passages:,}",
        "text, MB": f"{bytes_of_text / 1e6:,.0f}",
        "prepare, s": f"{prepared:.3g}",
        "passages/s": f"{passages / prepared:,.0f}",
        "train, pairs/s": f"{TRAINED / trained:,.0f}",
        "evaluate, pairs/s": f"{DEPTH * TESTED / evaluated:,.0f}",
    } | {f"memory, MB: {stage}": f"{most:,.0f}" for stage, (_, most) in stages.items()}


def main() -> None:
    """Measure every size and publish the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passages", type=int, nargs="+", default=PASSAGES)
    rows = [row(passages) for passages in parser.parse_args().passages]
    said = (
        f"Synthetic passages of {WORDS} words; {TRAINING:,} queries train, {TESTED} are tested at depth {DEPTH}; "
        f"the smallest run trains on {TRAINED:,} pairs. Prepared are BM25's index, candidates, texts and tokens. "
        "Memory is each stage's highest, of its process or a child of it, files that are mapped included."
    )
    common.publish("Growth of collections", f"{said}\n\n{common.table(rows)}")


if __name__ == "__main__":
    main()
