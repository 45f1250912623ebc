"""A supervised query generator: an ED2LM that learns to write people's queries of some documents and asks of others."""

from dataclasses import dataclass

import numpy as np
import torch
from transformers import DynamicCache, EncoderDecoderCache

from rankscale_utils.collections import Collection
from rankscale_utils.collections.batching import of_like_length
from rankscale_utils.collections.groups import TrainingQueries
from rankscale_utils.collections.singles import singles
from rankscale_utils.machine.device import compute_device
from rankscale_utils.machine.progress import Progress
from rankscale_utils.models.ed2lm import Ed2lm
from rankscale_utils.study.study import Run, Study
from rankscale_utils.study.training import Groups

from .trainer import Trainer

OBJECTIVE = "generation"
LIKELIEST = 10  # tokens that are drawn from, as doc2query does (arXiv 1904.08375)
BATCH_TOKENS = 16_384  # of the documents that are asked about at once


@dataclass(frozen=True)
class Taught(Collection):
    """A collection of whose training pairs only some teach."""

    items: TrainingQueries

    def training_queries(self) -> TrainingQueries:
        """The pairs that teach."""
        return self.items


def generated_queries(
    study: Study, collection: Collection, teaching: TrainingQueries, document_rows: np.ndarray
) -> list[str]:
    """Return a query for each document (documents,), written by a model that `teaching`'s pairs trained.

    The model has the shape and the learning rate of `annotations.generator`, its weights and draws fixed seeds.
    """
    settings = study.annotations.generator
    teacher = study.model_copy(
        update={
            "ladder": {"generator": settings.shape},
            "objectives": {OBJECTIVE: settings.objective},
            "training": study.training.model_copy(
                update={"groups": Groups(hard=0, random=0, queries_per_step=settings.queries_per_step)}
            ),
        }
    )
    run = Run(objective=OBJECTIVE, rung="generator", seed=0)
    device = compute_device(study.training.threads)
    taught = Taught(collection.texts, collection.candidates, collection.tokens, teaching)
    trainer, end = Trainer(teacher, run, taught, device), settings.pairs // settings.queries_per_step
    progress = Progress("query generator", end * settings.queries_per_step, "pairs")
    begin = end - round(end * study.training.cooldown)
    trainer.advance(begin, cool=False, progress=progress)
    trainer.advance(end, cool=True, progress=progress)
    return _written(study, trainer.model.eval(), collection, document_rows)


@torch.inference_mode()
def _written(study: Study, model: Ed2lm, collection: Collection, document_rows: np.ndarray) -> list[str]:
    """Return a sampled query for each document."""
    _, documents = singles(collection.pairs(), study.text, "ed2lm")
    tokenizer, device = collection.tokenizer(), model.t5.shared.weight.device
    never = [model.t5.config.pad_token_id, model.t5.config.decoder_start_token_id]
    never += [model.setting.true_id, model.setting.false_id]
    written = np.empty(len(document_rows), object)
    torch.manual_seed(0)
    progress = Progress("query generator", len(document_rows), "documents")
    for places in of_like_length(documents.lengths(document_rows), BATCH_TOKENS):
        ids, mask = (part.to(device) for part in documents.batch(document_rows[places]))
        drawn = model.t5.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=True,
            top_k=LIKELIEST,
            max_new_tokens=study.text.longest_query,
            suppress_tokens=never,
            # transformers 5.23 sizes a cache of its own by the encoder's layers, of which there may be fewer
            past_key_values=EncoderDecoderCache(DynamicCache(), DynamicCache()),
        )
        written[places] = tokenizer.decode_batch(drawn.tolist(), skip_special_tokens=True)
        progress.advance(len(places))
    return written.tolist()
