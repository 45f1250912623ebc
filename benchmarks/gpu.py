"""What a GPU says of the package in eight minutes, where nothing can be installed.

python -m benchmarks.gpu [--minutes 8] [--out FOLDER] [--parts scoring training …]
`make gpu-bundle` puts what else it needs into build/gpu. Every part is a process of its own with a limit; its rows are
written as they come, and the page gpu.md after every part, so that a machine that goes away leaves what was measured.
Without a GPU the parts run small, as a rehearsal.
"""

import argparse
import gzip
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
import torch
import yaml
from transformers import T5Config

import rankscale_utils as rankscale
from benchmarks import common, scoring, training
from rankscale_utils.collections.groups import training_steps
from rankscale_utils.machine.files import digest
from rankscale_utils.machine.progress import Progress
from rankscale_utils.models.build import count_rung
from rankscale_utils.models.cross_encoder import CrossEncoder
from rankscale_utils.models.ed2lm import Setting, build_ed2lm
from rankscale_utils.pipeline.stage import ended_by
from rankscale_utils.scoring.cross_attention import CandidateGroup, Candidates
from rankscale_utils.scoring.decoder import DecoderScorer
from rankscale_utils.scoring.pairs import score_pairs
from rankscale_utils.study.loading import load_study
from rankscale_utils.study.study import run_seed
from rankscale_utils.training import losses
from rankscale_utils.training.trainer import Trainer

CUDA = common.DEVICE.type == "cuda"
LIMITS = {"tests": 70, "agreement": 40, "scoring": 130, "training": 110, "feeding": 30, "ed2lm": 45, "ladder": 240}
PATIENCE = 1 if CUDA else 5  # a rehearsal may take longer
if not CUDA:
    common.SHAPES["tiny"] = ("modernbert", 2, 64, 96, 2)  # of a rehearsal
SIZES = [shape for shape in common.SHAPES if shape.startswith("Ettin")] if CUDA else ["tiny"]
EACH = 20  # documents of a query
LENGTH, DOCUMENTS = (512, 100) if CUDA else (32, 4)  # of ED2LM
LADDER = {"objective": "listwise", "collection": "arxiv", "metric": "RR@10"}
Note = Callable[..., None]


def tests(note: Note) -> None:
    """Run the tests of what a GPU does; those that need one are skipped elsewhere."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/machine/test_transfer.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout)
    note(status=done.returncode, said=(done.stdout.strip().splitlines() or [done.stderr[-300:]])[-1])


def agreement(note: Note) -> None:
    """Compare losses, their gradients, and scores with the CPU's."""
    generator = torch.Generator().manual_seed(0)
    scores, relevance = torch.randn(16, 8, generator=generator), (torch.arange(8) == 0).float().repeat(16, 1)
    for name in ("pointwise", "pairwise", "listwise", "lambdaloss", "margin_mse", "ranknet_distillation"):
        values = []
        for device in ("cpu", common.DEVICE):
            own = scores.to(device, copy=True).requires_grad_()
            value = getattr(losses, name)(own, relevance.to(device))
            value.backward()
            values.append((value.item(), own.grad.cpu()))
        (here, by_here), (there, by_there) = values
        note(what=name, difference=abs(here - there), gradient=(by_here - by_there).abs().max().item())
    found = _corpus(64)
    tokens = common.tokenizer(found)
    model, pairs = scoring.of_shape("MiniLM-L6" if CUDA else "tiny"), common.tokenised(found, tokens)
    here = score_pairs(model, pairs, found.query_rows, found.document_rows)
    for dtype in (torch.float32, common.DTYPE):
        there = score_pairs(model.to(common.DEVICE, dtype), pairs, found.query_rows, found.document_rows)
        note(what=f"scores, {dtype}", difference=float(np.abs(here - there).max()), spread=float(here.std()))


def of_scoring(note: Note) -> None:
    """Time scoring at every size beside sentence-transformers' best setting there."""
    found = _corpus(1000 if CUDA else 40)
    tokens = common.tokenizer(found)

    def time_scoring(shape: str, folder: Path) -> None:
        rows, speed = scoring.of_model(scoring.of_shape(shape), found, tokens, 2 if CUDA else 1, folder)
        note(shape=shape, speed=speed)
        for row in rows:
            note(shape=shape, **row)

    _at_every_size(note, time_scoring)


def _at_every_size(note: Note, work: Callable[[str, Path], None]) -> None:
    """Do something at every size, in a folder of its own; one that fails says so, and the others are still of use."""
    for shape in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                work(shape, Path(folder))
            except Exception as error:
                note(shape=shape, failed=_told(error))


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def _trainer(shape: str, folder: Path) -> tuple[Trainer, Callable[[], Any]]:
    """Return a trainer of a shape over real texts, and what takes its next step's batch."""
    found = _corpus(9_000 if CUDA else 400)
    reader = common.tokenizer(found)
    (folder / "tokens").mkdir()
    reader.save(folder / "tokens")
    study = training.study_of(shape, folder)
    items = training.training_items(found)
    given = training.Given(reader, common.tokenised(found, reader), items, folder / "tokens")
    trainer = Trainer(study, study.run("listwise-small-s0"), given, common.DEVICE)
    steps = training_steps(items, study.training.groups, run_seed(trainer.run, "data"))
    return trainer, lambda: trainer._ready(next(steps))


def _advance(trainer: Trainer, steps: int) -> float:
    """Take steps; return the seconds of one."""
    began = time.perf_counter()
    trainer.advance(trainer.seen.step + steps, cool=False, progress=Progress("gpu", steps, "pairs"))
    return (time.perf_counter() - began) / steps


def of_training(note: Note) -> None:
    """Time training steps of every size, and their peak memory."""

    def time_steps(shape: str, folder: Path) -> None:
        trainer, _ = _trainer(shape, folder)
        _advance(trainer, 3 if CUDA else 1)
        if CUDA:
            torch.cuda.reset_peak_memory_stats()
        seconds = _advance(trainer, 10 if CUDA else 1)
        peak = torch.cuda.max_memory_allocated() / 1e9 if CUDA else float("nan")
        pairs = training.QUERIES * training.CANDIDATES
        note(shape=shape, steps_per_second=1 / seconds, pairs_per_second=pairs / seconds, peak_gb=peak,
             micro_batches=str(trainer.micro_batches))  # fmt: skip

    _at_every_size(note, time_steps)


def feeding(note: Note) -> None:
    """Compare steps whose batches the host prepares meanwhile with steps of a batch that is there: 1 starves nobody."""
    with tempfile.TemporaryDirectory() as folder:
        trainer, take = _trainer(SIZES[0], Path(folder))
        count = 40 if CUDA else 2
        _advance(trainer, 5 if CUDA else 1)
        fed, ready = _advance(trainer, count), [take() for _ in range(4 if CUDA else 1)]
        began = time.perf_counter()
        for place in range(count):
            trainer._step(ready[place % len(ready)])
        trainer._read(0)
        there = (time.perf_counter() - began) / count
        note(shape=SIZES[0], step_ms=1e3 * fed, step_of_batches_that_are_there_ms=1e3 * there, ratio=fed / there)


def of_ed2lm(note: Note) -> None:
    """Time T5-base and T5-large: pairs in full, and the decoder alone over the stored states of as many documents."""
    for name, shape in {"T5-base": (768, 3072, 12, 12), "T5-large": (1024, 4096, 24, 16)}.items():
        for side, run in _ways(*shape).items():
            try:
                (seconds,) = common.in_turns({side: run}, 3 if CUDA else 1).values()
                note(model=name, side=side, documents=DOCUMENTS, ms=1e3 * float(np.median(seconds)))
            except Exception as error:  # the other ways are still of use
                note(model=name, side=side, documents=DOCUMENTS, failed=_told(error))


def _ways(width: int, inner: int, layers: int, heads: int) -> dict[str, Callable[[], float]]:
    """Return what scores documents for a query with a T5 of random weights, by how it does."""
    config = T5Config(vocab_size=32128, d_model=width, d_kv=64, d_ff=inner, num_layers=layers, num_heads=heads,
                      decoder_start_token_id=0)  # fmt: skip
    t5 = build_ed2lm(config, Setting(0, 1, LENGTH + 1)).eval().to(common.DEVICE, common.DTYPE)
    text, query = [torch.randint(2, 30_000, (DOCUMENTS, tokens), device=common.DEVICE) for tokens in (LENGTH, 13)]
    states = torch.randn(1, DOCUMENTS, LENGTH, width, device=common.DEVICE, dtype=common.DTYPE)
    candidates = Candidates([CandidateGroup(states, None)], torch.arange(DOCUMENTS, device=common.DEVICE))

    @torch.inference_mode()
    def in_full() -> float:
        read = {"input_ids": text, "attention_mask": torch.ones_like(text), "decoder_input_ids": query}
        return t5.t5(**read).logits[0, 0, 0].item()

    @torch.inference_mode()
    def stored() -> float:
        return scorer.score(query[0, :12], candidates, "true_false")[0].item()

    scorer = DecoderScorer(t5, "absorbed", common.DTYPE)
    return {"in full": in_full, "over stored states": stored}


def ladder(note: Note) -> None:
    """Train a ladder from scratch on titles and abstracts; the largest rung's forecast is sealed before it trains."""
    hidden = (64, 96, 128, 192, 384) if CUDA else (8, 12, 16, 24, 32)
    exposures = [32_000, 64_000, 128_000] if CUDA else [64, 128, 256]
    rungs, rows = {f"w{size}": {"hidden": size, "layers": 4 if CUDA else 1} for size in hidden}, []
    held_out = list(rungs)[-1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = _titles(20_000 if CUDA else 400)
        reader = common.tokenizer(found, 8_000 if CUDA else 1_000)
        (folder / "tokens").mkdir()
        reader.save(folder / "tokens")
        study = _ladder_study(folder, rungs, held_out, exposures)
        given = training.Given(reader, common.tokenised(found, reader), _random_negatives(found), folder / "tokens")
        test = _test_pairs(found)
        for rung in rungs:
            if rung == held_out:
                count = count_rung(study, "cross_encoder", rung, reader.tokenizer.get_vocab_size()).total
                note(**_sealed(pd.DataFrame(rows), rung, count, exposures[-1]))
            trainer = Trainer(study, study.run(f"listwise-{rung}-s0"), given, common.DEVICE)
            began = time.perf_counter()
            for exposure in exposures:
                _advance(trainer, exposure // study.training.groups.pairs_per_step - trainer.seen.step)
                value = _reciprocal_rank(trainer.model, given, *test)
                rows.append(
                    LADDER | {"rung": rung, "params": trainer.counts.total, "exposure": exposure, "value": value}
                )
                note(**rows[-1], seconds=time.perf_counter() - began)
        judged = rankscale.forecast(pd.DataFrame(rows), held_out=[held_out], metrics=["RR@10"], draws=200)
        note(**judged[["rung", "forecast", "lo", "hi", "actual", "no_change", "skill"]].iloc[-1].to_dict())


def _titles(count: int) -> common.Corpus:
    """Return titles as queries and abstracts as documents."""
    with gzip.open(common.DATA / "arxiv" / "pairs-00.jsonl.gz", "rt", encoding="utf-8") as file:
        pairs = list(islice(map(json.loads, file), count))
    rows = np.arange(len(pairs))
    return common.Corpus("arxiv", [pair["title"] for pair in pairs], [pair["abstract"] for pair in pairs], rows, rows)


def _corpus(pairs: int) -> common.Corpus:
    """Return pairs of titles with their own abstracts and others', in random order."""
    found, rng = _titles(max(30, pairs // EACH)), np.random.default_rng(0)
    documents = rng.integers(len(found.documents), size=(len(found.queries), EACH))
    documents[:, 0] = found.document_rows
    order = rng.permutation(documents.size)[:pairs]
    queries = np.repeat(found.query_rows, EACH)
    return common.Corpus(found.name, found.queries, found.documents, queries[order], documents.ravel()[order])


def _random_negatives(found: common.Corpus) -> training.TrainingQueries:
    """Return all pairs but the tests' as training items."""
    rows = found.query_rows[: -len(found.query_rows) // 10]
    relevant = np.unique(training.random_keys(rows, rows))
    hard = np.full((len(rows), 1), -1)
    return training.TrainingQueries(rows, rows, np.ones(len(rows), np.float32), hard, relevant, rows)


def _test_pairs(found: common.Corpus, candidates: int = 100 if CUDA else 32) -> tuple[np.ndarray, np.ndarray]:
    """Return every test title with its own abstract first and others' after it, none of which a training pair holds.

    Shape: (queries, candidates) rows each.
    """
    tested, rng = found.query_rows[-len(found.query_rows) // 10 :][:500], np.random.default_rng(0)
    others = [1 + rng.choice(len(tested) - 1, candidates - 1, replace=False) for _ in tested]
    documents = tested[(np.arange(len(tested))[:, None] + np.insert(others, 0, 0, axis=1)) % len(tested)]
    return np.repeat(tested[:, None], candidates, axis=1), documents


def _reciprocal_rank(model: CrossEncoder, given: training.Given, queries: np.ndarray, documents: np.ndarray) -> float:
    scores = score_pairs(model, given.given, queries.ravel(), documents.ravel()).reshape(queries.shape)
    model.train()
    ranks = 1 + (scores[:, 1:] >= scores[:, :1]).sum(1)
    return float(np.where(ranks <= 10, 1 / ranks, 0.0).mean())


def _ladder_study(folder: Path, rungs: dict, held_out: str, exposures: list[int]) -> Any:
    fields = {
        "text": {"vocabulary": 1_000, "query_tokens": 32, "pair_tokens": common.TOKENS},
        "ladder": rungs,
        "held_out": {"rungs": [held_out]},
        "objectives": {"listwise": {"learning_rate": {"base": 2e-3}}},
        "training": {"exposures": exposures, "warmup_steps": 20 if CUDA else 1,
                     "groups": {"hard": 0, "random": 7, "queries_per_step": 32 if CUDA else 4}},
    }  # fmt: skip
    path = folder / "ladder.yaml"
    path.write_text(yaml.safe_dump(fields), encoding="utf-8")
    return load_study(path)


def _sealed(rows: pd.DataFrame, rung: str, params: float, exposure: int) -> dict:
    """Return the forecast of a rung that nobody has trained, with when it was made and of what."""
    planned = pd.DataFrame([{"rung": rung, "params": params, "exposure": exposure}])
    row = rankscale.forecast(rows, at=planned, metrics=["RR@10"], draws=200).iloc[-1]
    return {"sealed": rung, "at": time.strftime("%H:%M:%S"), "sha256": digest(rows.to_csv(index=False)),
            **{name: float(row[name]) for name in ("forecast", "lo", "hi")}}  # fmt: skip


PARTS = {"tests": tests, "agreement": agreement, "scoring": of_scoring, "training": of_training, "feeding": feeding,
         "ed2lm": of_ed2lm, "ladder": ladder}  # fmt: skip


def page(folder: Path, ended: dict[str, str]) -> None:
    """Write what is known so far as a page."""
    versions = f"Python {sys.version.split()[0]}, torch {torch.__version__}"
    lines = ["# On a GPU" if CUDA else "# A rehearsal without a GPU", "", f"{common.hardware()['device']}, {versions}."]
    for part, how in ended.items():
        rows = [json.loads(line) for line in (folder / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()]
        lines += ["", f"## {part}", "", f"{PARTS[part].__doc__.splitlines()[0]} {how}.", ""]
        for heads in dict.fromkeys(tuple(row) for row in rows):
            lines += [common.table([{name: _shown(value) for name, value in row.items()} for row in rows
                                    if tuple(row) == heads]), ""]  # fmt: skip
    (folder / "gpu.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def run(folder: Path, minutes: float, parts: list[str]) -> None:
    """Run the parts one after the other while there is time."""
    until, ended = time.monotonic() + 60 * minutes, {}
    for part in parts:
        (folder / f"{part}.jsonl").write_text("", encoding="utf-8")
        began, left = time.monotonic(), until - time.monotonic()
        command = [sys.executable, "-m", "benchmarks.gpu", "--part", part, "--out", str(folder)]
        try:
            with open(folder / f"{part}.log", "w", encoding="utf-8") as log:
                _ended(command, log, max(1, min(left, LIMITS[part] * PATIENCE)))
            how = f"Done after {time.monotonic() - began:.0f} s"
        except subprocess.TimeoutExpired:
            how = f"Stopped after {time.monotonic() - began:.0f} s"
        except subprocess.CalledProcessError as error:
            said = (folder / f"{part}.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            how = f"It failed: {ended_by(error.returncode) or (said or ['it said nothing'])[-1]}"
        ended[part] = how
        page(folder, ended)
        print(f"{part}: {how}", flush=True)


def _ended(command: list[str], log: TextIO, seconds: float) -> None:
    """Run a command in a process group of its own, of which nothing goes on beside the next part.

    Raises:
        TimeoutExpired: it took longer.
        CalledProcessError: it failed.
    """
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        if status := process.wait(seconds):
            raise subprocess.CalledProcessError(status, command)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> None:
    """Run all parts, or one in this process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--out", type=Path, default=common.ROOT / "build" / "gpu" / "said")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--part", choices=PARTS)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if not given.part:
        run(given.out, given.minutes, given.parts)
        return
    warnings.simplefilter("ignore")
    os.environ["RANKSCALE_PROGRESS"] = os.devnull
    PARTS[given.part](partial(_note, given.out / f"{given.part}.jsonl"))


def _note(file: Path, **row: object) -> None:
    with open(file, "a", encoding="utf-8") as out:
        out.write(json.dumps(row, default=float) + "\n")


if __name__ == "__main__":
    main()
