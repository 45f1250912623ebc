"""What pretrained rungs must be, looked at with their weights before anything is trained, and what they start from."""

import torch
from transformers import PretrainedConfig, PreTrainedModel

from rankscale_utils.errors import StudyError
from rankscale_utils.study.objectives import Family
from rankscale_utils.study.study import Study

from .build import rung_config
from .classifier import is_classifier
from .cross_encoder import CrossEncoder
from .pretrained import read_classifier, read_config, read_encoder, read_t5

SAME = 1e-4  # by which states and scores of an encoder that is checked may be off


def check_pretrained(study: Study) -> None:
    """Read every pretrained rung's weights once, so that what is missing stops the study before anything is trained.

    Weights that are not in the cache yet are downloaded into it.

    Raises:
        StudyError: a rung's weights cannot be read.
    """
    for rung, source in study.pretrained.items():
        field = f"ladder.{rung}"
        for family in study.families:
            config = rung_config(study, family, rung, vocabulary=0)
            if family == "ed2lm":
                read_t5(field, source)
            elif family == "bi_encoder":
                refuse_padded(field, source, read_encoder(field, source, config))
            else:
                refuse_other_scores(field, source, read_classifier(field, source, config))


@torch.inference_mode()
def refuse_padded(field: str, source: str, encoder: PreTrainedModel) -> None:
    """Refuse an encoder whose states depend on the padding beside a text."""
    ids, mask, short = _probe(encoder.config)
    together = encoder.eval()(input_ids=ids, attention_mask=mask).last_hidden_state[0, :short]
    alone = encoder(input_ids=ids[:1, :short], attention_mask=mask[:1, :short]).last_hidden_state[0, :short]
    if (off := (together - alone).abs().max().item()) > SAME:
        raise StudyError(
            f"{field} = {source!r}: a {encoder.config.model_type}'s states change with the padding beside a "
            f"text, by up to {off:.1g}: name another encoder."
        )


@torch.inference_mode()
def refuse_other_scores(field: str, source: str, classifier: PreTrainedModel) -> None:
    """Refuse an encoder whose scores here are not those of transformers' own classifier, such as Longformer, whose
    classifier lets the first token see everything.
    """
    ids, mask, _ = _probe(classifier.config)
    theirs = classifier.eval()(input_ids=ids, attention_mask=mask).logits[:, 0]
    try:
        off = (theirs - CrossEncoder.of(classifier).eval()(ids, mask)).abs().max().item()
    except (TypeError, ValueError, AttributeError, RuntimeError):  # a head that needs more than a pooled state
        off = float("inf")
    if not off <= SAME:
        raise StudyError(
            f"{field} = {source!r}: a {classifier.config.model_type}'s scores here are not those of "
            f"transformers' own classifier (off by {off:.1g}): name another encoder."
        )


def _probe(config: PretrainedConfig) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return ids, none of them padding's, and mask of two sequences (2, tokens), and the first one's length."""
    short, long = 9, 17
    words = torch.tensor([word for word in range(3 * long) if word != config.pad_token_id])
    mask = (torch.arange(long) < torch.tensor([[short], [long]])).long()
    return words[-2 * long :].view(2, long), mask, short


def start_of(study: Study, family: Family, rung: str) -> str:
    """Say what weights a rung's models start from, for people to read."""
    if rung not in study.pretrained:
        return "random weights"
    finished = is_classifier(read_config(f"ladder.{rung}", study.pretrained[rung]))
    heads = {
        "cross_encoder": "a reranker's, its head included" if finished else "pretrained, with a new head",
        "bi_encoder": f"pretrained, with a new projection{' and without their own head for scores' * finished}",
        "ed2lm": "pretrained",
    }
    layers = study.ladder[rung].layers
    return heads[family] + (f"; the first {layers} layers" if layers else "")
