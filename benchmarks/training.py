"""A training step: ours against sentence-transformers' CrossEncoderTrainer and a plain padded loop; same model, data,
batches and loss.

python -m benchmarks.training [--steps 3] [--repeats 2] [--shapes MiniLM-L6 Ettin-17M]
Both sides start from words. Theirs is timed from its first step's end to its last's, ours as a whole.
"""

import argparse
import logging
import os
import tempfile
import time
import warnings
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import sentence_transformers
import torch
import yaml
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments, losses
from tokenizers import Tokenizer
from transformers import AutoTokenizer, TrainerCallback

from benchmarks import alternatives, common
from rankscale_utils.collections.groups import Step, TrainingQueries, random_keys, training_steps
from rankscale_utils.collections.tokens import Pairs, StudyTokenizer
from rankscale_utils.machine.progress import Progress
from rankscale_utils.models.build import build_model
from rankscale_utils.models.checkpoint import model_of_folder, save_checkpoint
from rankscale_utils.models.flat_batch import Sequences
from rankscale_utils.study.loading import load_study
from rankscale_utils.study.study import Study, run_seed
from rankscale_utils.training.losses import LOSSES
from rankscale_utils.training.trainer import Trainer

if TYPE_CHECKING:
    from datasets import Dataset

QUERIES, CANDIDATES, POSITIVES = 16, 8, 20  # a step's queries, their documents, and the best of each query's passages
RATE = 2e-5


@dataclass(frozen=True)
class Given:
    """What a trainer asks of a collection."""

    reader: StudyTokenizer
    given: Pairs
    items: TrainingQueries
    tokens: Path
    token_shares: None = None

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer."""
        return self.reader.tokenizer

    def pairs(self) -> Pairs:
        """Return what makes batches."""
        return self.given

    def training_queries(self) -> TrainingQueries:
        """Return what is trained on."""
        return self.items


def training_items(found: common.Corpus) -> TrainingQueries:
    """Return an item for each of a query's best passages, whose negatives are its other ones."""
    queries, positives, hard = [], [], []
    for query in np.unique(found.query_rows):
        documents = found.document_rows[found.query_rows == query]
        for place in range(min(POSITIVES, len(documents) - CANDIDATES + 1)):
            queries.append(query)
            positives.append(documents[place])
            hard.append(np.delete(documents, place)[: CANDIDATES * 4])
    width = max(map(len, hard))
    rows = np.array([np.pad(some, (0, width - len(some)), constant_values=-1) for some in hard])
    query_rows, positive_rows = np.array(queries), np.array(positives)
    relevant = np.unique(random_keys(query_rows, positive_rows))
    grades = np.ones(len(query_rows), np.float32)
    return TrainingQueries(query_rows, positive_rows, grades, rows, relevant, np.arange(len(found.documents)))


def study_of(shape: str, folder: Path) -> Study:
    """Return a study whose one rung has this shape and whose steps are the benchmark's."""
    kind, layers, hidden, intermediate, heads = common.SHAPES[shape]
    rung = {"layers": layers, "hidden": hidden, "intermediate": intermediate, "heads": heads}
    fields = {
        "collection": "docstrings",
        "architecture": kind,
        "text": {"vocabulary": common.VOCABULARY, "query_tokens": 64, "pair_tokens": common.TOKENS},
        "ladder": {"small": rung, **{f"deeper{more}": rung | {"layers": layers + more} for more in (1, 2, 3)}},
        "held_out": {"rungs": ["deeper3"]},  # a study has four rungs at least
        "objectives": {name: {"learning_rate": {"base": RATE}} for name in ("listwise", "pointwise")},
        "training": {
            "exposures": [10_000],
            "groups": {"hard": CANDIDATES - 1, "random": 0, "queries_per_step": QUERIES},
            "warmup_steps": 0,
            "threads": torch.get_num_threads(),
        },
    }
    path = folder / "bench.yaml"
    path.write_text(yaml.safe_dump(fields), encoding="utf-8")
    return load_study(path)


def ours(study: Study, objective: str, found: common.Corpus, items: TrainingQueries, given: Given, count: int) -> float:
    """Return our seconds a step; the texts that the steps read are tokenised within."""
    run = study.run(f"{objective}-small-s0")
    wanted = steps_of(study, objective, items, count)
    read = common.Corpus(
        found.name,
        found.queries,
        found.documents,
        np.concatenate([step.query_rows.ravel() for step in wanted]),
        np.concatenate([step.document_rows.ravel() for step in wanted]),
    )
    trainer = Trainer(study, run, given, common.DEVICE)
    with common.kept_memory():
        began = time.perf_counter()
        trainer.learner.pairs = common.tokenised(read, given.reader)
        trainer.advance(count, cool=False, progress=Progress("bench", count, "pairs"))
        return (time.perf_counter() - began) / count


def steps_of(study: Study, objective: str, items: TrainingQueries, count: int) -> list[Step]:
    """Return the first steps of a run."""
    seed = run_seed(study.run(f"{objective}-small-s0"), "data")
    return list(islice(training_steps(items, study.training.groups, seed), count))


class Clock(TrainerCallback):
    """Notes when every step ended."""

    def __init__(self) -> None:
        """Begin with none."""
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note one, computed and not only asked for."""
        if common.DEVICE.type == "cuda":
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def theirs(folder: Path, objective: str, rows: list[Step], found: common.Corpus) -> float:
    """Return sentence-transformers' seconds a step."""
    model = sentence_transformers.CrossEncoder(str(folder / "model"), device=str(common.DEVICE), trust_remote_code=True)
    listwise = objective == "listwise"
    loss = losses.ListNetLoss(model) if listwise else losses.BinaryCrossEntropyLoss(model)
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(folder / "out"),
        per_device_train_batch_size=QUERIES if listwise else QUERIES * CANDIDATES,
        max_steps=len(rows),
        learning_rate=RATE,
        warmup_steps=0,
        use_cpu=common.DEVICE.type == "cpu",
        bf16=common.DEVICE.type == "cuda",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    clock = Clock()
    dataset = (in_groups if listwise else in_pairs)(rows, found)
    CrossEncoderTrainer(model, arguments, dataset, loss=loss, callbacks=[clock]).train()
    return float(np.diff(clock.ends).mean())


def in_groups(rows: list[Step], found: common.Corpus) -> "Dataset":
    """Return a row a query: the query, its documents and their labels."""
    from datasets import Dataset

    groups = [group for step in rows for group in zip(step.query_rows, step.document_rows, step.relevance, strict=True)]
    return Dataset.from_dict(
        {
            "query": [found.queries[queries[0]] for queries, _, _ in groups],
            "docs": [[found.documents[row] for row in documents] for _, documents, _ in groups],
            "labels": [labels.tolist() for _, _, labels in groups],
        }
    )


def in_pairs(rows: list[Step], found: common.Corpus) -> "Dataset":
    """Return a row a pair: the query, the document and its label."""
    from datasets import Dataset

    columns = [np.concatenate([getattr(step, name).ravel() for step in rows]) for name in Step._fields[:3]]
    texts = {
        "query": [found.queries[row] for row in columns[0]],
        "document": [found.documents[row] for row in columns[1]],
    }
    return Dataset.from_dict(texts | {"label": columns[2].tolist()})


def plain(folder: Path, objective: str, rows: list[Step], found: common.Corpus) -> float:
    """Return the seconds a step of a loop as one writes it: padded to the longest pair, transformers' own attention."""
    model = alternatives.Whole(model_of_folder(folder / "model")).train().to(common.DEVICE)
    reader, loss = AutoTokenizer.from_pretrained(folder / "model"), LOSSES[objective]
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)
    began = time.perf_counter()
    for step in rows:
        places = zip(step.query_rows.ravel(), step.document_rows.ravel(), strict=True)
        texts = [(found.queries[query], found.documents[document]) for query, document in places]
        ((order, batch),) = alternatives.padded(reader, texts, len(texts))
        inputs = (torch.from_numpy(batch[name]).to(common.DEVICE) for name in alternatives.INPUTS)
        with torch.autocast(common.DEVICE.type, torch.bfloat16, enabled=common.DEVICE.type == "cuda"):
            scores = model(*inputs).float()[torch.from_numpy(np.argsort(order)).to(common.DEVICE)]
        target = torch.as_tensor(step.relevance, dtype=torch.float32, device=common.DEVICE)
        optimizer.zero_grad()
        loss(scores.view(target.shape), target).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    if common.DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / len(rows)


def of_shape(shape: str, found: common.Corpus, items: TrainingQueries, count: int, repeats: int) -> list[dict]:
    """Return a shape's rows of the table, one an objective."""
    rows, reader = [], common.tokenizer(found)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tokens").mkdir()
        reader.save(folder / "tokens")
        study = study_of(shape, folder)
        given = Given(reader, common.tokenised(found, reader), items, folder / "tokens")
        model = build_model(study, study.run("listwise-small-s0"), reader.tokenizer.get_vocab_size())
        save_checkpoint(model, folder / "model", folder / "tokens")
        for objective in ("listwise", "pointwise"):
            wanted = steps_of(study, objective, items, count)
            mine = partial(ours, study, objective, found, items, given, count)
            other = partial(theirs, folder, objective, wanted, found)
            loop = partial(plain, folder, objective, wanted, found)
            mine, other, loop = zip(*[(mine(), other(), loop()) for _ in range(repeats + 1)][1:], strict=True)
            rows.append(
                {
                    "shape": shape,
                    "loss": objective,
                    "ours, pairs/s": common.span([QUERIES * CANDIDATES / one for one in mine]),
                    "`CrossEncoderTrainer`": common.ratio(other, mine),
                    "plain loop, padded": common.ratio(loop, mine),
                    "assembling a batch": f"{assembly(given.pairs(), wanted) / np.median(mine):.2%} of a step",
                }
            )
    return rows


def assembly(pairs: Pairs, wanted: list[Step]) -> float:
    """Return the seconds that assembling a step's batch takes, and finding out what stands where in its flat form."""
    began = time.perf_counter()
    for step in wanted:
        ids, mask, *_ = pairs.batch(step.query_rows.ravel(), step.document_rows.ravel())
        lengths = mask.sum(1).numpy()
        Sequences.of(lengths, ids.shape[1], np.ones_like(lengths)).flat(ids)
    return (time.perf_counter() - began) / len(wanted)


def main() -> None:
    """Measure the shapes asked for and publish their table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--shapes", nargs="+", default=["MiniLM-L6", "Ettin-17M"], choices=common.SHAPES)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    os.environ["RANKSCALE_PROGRESS"] = os.devnull
    found = common.corpus(9_000)
    items, rows = training_items(found), []
    for shape in arguments.shapes:
        rows += of_shape(shape, found, items, arguments.steps, arguments.repeats)
    common.publish(
        "Training",
        f"Steps of {QUERIES} queries with {CANDIDATES} documents each ({found.name}), from words to updated weights, "
        f"{common.precision()}, random weights, no dropout. The ratio says how many times longer their step takes; "
        f"medians of {arguments.repeats} repeats of {arguments.steps} steps in turns, with their range.\n\n"
        + common.table(rows),
    )


if __name__ == "__main__":
    main()
