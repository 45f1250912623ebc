"""What pretrained rungs must be, looked at with their weights before anything is trained, and what they start from."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PretrainedConfig, PreTrainedModel

from rankscale_utils.errors import StudyError
from rankscale_utils.study.objectives import Family
from rankscale_utils.study.study import Study

from .bi_encoder import BiEncoder
from .build import bi_encoder_on, rung_config
from .classifier import is_classifier
from .decoder import reranker_of
from .own_layers import UnitLength, layers_of, makes_embeddings
from .pair_layout import PairLayout
from .pretrained import is_decoder, read_classifier, read_config, read_encoder, read_t5, read_tokenizer
from .pretrained_decoder import read_decoder
from .prompts import prompts_of, prompts_of_study, refuse_long_prompts

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
                encoder = read_encoder(field, source, config)
                tokenizer, text = read_tokenizer(field, source)[0], study.text
                longest = PairLayout.of(tokenizer).apart(text.pair_tokens, text.query_tokens)
                refuse_long_prompts("bi_encoder", tokenizer, prompts_of_study(study), longest)
                refuse_padded(field, source, encoder)
                _refuse_unit_products(study, field, source, bi_encoder_on(study, rung, encoder))
            elif study.ladder[rung].reads:
                refuse_padded(field, source, read_encoder(field, source, config))
            elif is_decoder(config):
                _refuse_long_prompt(study, field, source)
                refuse_other_scores(field, source, read_decoder(field, source, config))
            else:
                _refuse_default_prompt(field, source, config)
                refuse_other_scores(field, source, read_classifier(field, source, config))


def _refuse_default_prompt(field: str, source: str, config: PretrainedConfig) -> None:
    """Refuse a finished reranker whose users' tools put a prompt before queries."""
    if is_classifier(config) and (prompt := prompts_of(source)[0]):
        raise StudyError(
            f"{field} = {source!r} puts {prompt!r} before queries, which training does not: take default_prompt_name "
            "out of a local copy's config_sentence_transformers.json."
        )


def _refuse_long_prompt(study: Study, field: str, source: str) -> None:
    """Refuse a prompt that leaves no room for texts."""
    text, layout = study.text, PairLayout.of(read_tokenizer(field, source, study.decoder.prompt)[0])
    if (wanted := layout.special + (text.query_tokens or 1) + 1) > text.pair_tokens:
        raise StudyError(
            f"text.pair_tokens = {text.pair_tokens}: decoder.template takes {layout.special} of them, which leaves no "
            f"document beside the query: raise pair_tokens to {wanted} or more."
        )


def _refuse_unit_products(study: Study, field: str, source: str, model: BiEncoder) -> None:
    """Refuse to train embeddings of length one on products that are not scaled."""
    layers = [layer for _, layer in layers_of(model.projection)]
    if layers and isinstance(layers[-1], UnitLength) and not study.objectives["contrastive"].temperature:
        raise StudyError(
            f"objectives.contrastive.temperature: {field} = {source!r} makes embeddings of length one, whose products, "
            "at most 1, a softmax hardly tells apart: give one, such as 0.05, that of sentence-transformers."
        )


@torch.inference_mode()
def refuse_padded(field: str, source: str, encoder: PreTrainedModel) -> None:
    """Refuse an encoder whose states depend on the padding beside a text."""
    ids, mask, short = _probe(encoder.config)
    with _running(field, source, encoder.config):
        together = encoder.eval()(input_ids=ids, attention_mask=mask).last_hidden_state[0, :short]
        alone = encoder(input_ids=ids[:1, :short], attention_mask=mask[:1, :short]).last_hidden_state[0, :short]
    if (off := (together - alone).abs().max().item()) > SAME:
        raise StudyError(
            f"{field} = {source!r}: a {encoder.config.model_type}'s states change with the padding beside a "
            f"text, by up to {off:.1g}: name another encoder."
        )


@torch.inference_mode()
def refuse_other_scores(field: str, source: str, model: PreTrainedModel) -> None:
    """Refuse a classifier or language model whose scores here are not its own, such as Longformer's, whose classifier
    lets the first token see everything.
    """
    ids, mask, _ = _probe(model.config)
    ids = torch.where(mask > 0, ids, model.config.pad_token_id or 0)
    with _running(field, source, model.config):
        logits = model.eval()(input_ids=ids, attention_mask=mask).logits
    if verdict := getattr(model.config, "verdict", None):
        relevant, other = logits[torch.arange(len(ids)), mask.sum(1) - 1][:, verdict].T
        logits = (relevant - other)[:, None]
    try:
        off = (logits[:, 0] - reranker_of(model).eval()(ids, mask)).abs().max().item()
    except (TypeError, ValueError, AttributeError, RuntimeError):  # a head that needs more than a pooled state
        off = float("inf")
    if not off <= SAME:
        causal = is_decoder(model.config)
        kind = "language model" if verdict else "classifier"
        raise StudyError(
            f"{field} = {source!r}: a {model.config.model_type}'s scores here are not those of "
            f"transformers' own {kind} (off by {off:.1g}): name another {'decoder' if causal else 'encoder'}."
        )


@contextmanager
def _running(field: str, source: str, config: PretrainedConfig) -> Iterator[None]:
    """Say in one sentence why transformers cannot run a model, where it cannot."""
    try:
        yield
    except Exception as error:  # of many kinds: an architecture may need more than ids and a mask
        reason = str(error).strip().split("\n")[0].rstrip(".:")
        raise StudyError(
            f"{field} = {source!r}: transformers cannot run this {config.model_type} on token ids alone ({reason}): "
            "name another model."
        ) from error


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
    config = read_config(f"ladder.{rung}", study.pretrained[rung])
    finished, words = is_classifier(config), is_decoder(config) and study.decoder.verdict
    own = not study.bi_encoder.dimensions and makes_embeddings(study.pretrained[rung])
    prompted = family == "bi_encoder" and any(prompts_of_study(study))
    heads = {
        "cross_encoder": "a language model's, its words included"
        if words
        else "a reranker's, its head included"
        if finished
        else "pretrained, with a new head",
        "bi_encoder": "a bi-encoder's, its pooling and layers included"
        if own
        else f"pretrained, with a new projection{' and without their own head for scores' * finished}",
        "ed2lm": "pretrained",
    }
    layers = study.ladder[rung].layers
    return heads[family] + f"; the first {layers} layers" * bool(layers) + "; prompts stand before texts" * prompted
