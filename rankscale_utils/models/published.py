"""Finished models as they were published: rerankers with one score, T5s, and bi-encoders of sentence-transformers.

Both keep everything of their own: tokenizer, longest text, prompts, pooling, and the layers behind it.
"""

from dataclasses import dataclass

from tokenizers import Tokenizer
from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from rankscale_utils.errors import StudyError
from rankscale_utils.study.decoder import DecoderSettings
from rankscale_utils.study.ladder import Prompts
from rankscale_utils.study.objectives import Family
from rankscale_utils.study.study import Study
from rankscale_utils.study.t5 import T5Settings

from .bi_encoder import BiEncoder
from .checks import refuse_other_scores, refuse_padded
from .classifier import is_classifier
from .cross_encoder import CrossEncoder
from .decoder import reranker_of
from .own_layers import makes_embeddings, read_own_layers
from .pair_layout import PairLayout
from .pretrained import (
    T5S,
    for_scores,
    is_decoder,
    most_tokens,
    read_classifier,
    read_config,
    read_encoder,
    read_t5,
    read_tokenizer,
    read_wrapped,
    refuse_few_words,
)
from .pretrained_decoder import for_decoder, read_decoder
from .prompt import lay_out
from .prompts import prompts_of, refuse_long_prompts
from .source import of_transformer
from .t5_reranker import READS_AT_MOST, T5Reranker, settings_of_t5, word_ids


@dataclass(frozen=True)
class Published:
    """A finished model, and what it makes of texts before it reads them.

    special: special tokens by role; segments: whether it is told which tokens are the document's; pair_tokens: the most
    that it reads of a pair, special tokens included, and apart: of a query and of a document alone; prompts: what
    stands before every query and before every document.
    """

    model: CrossEncoder | BiEncoder
    tokenizer: Tokenizer
    special: dict[str, str]
    segments: bool
    pair_tokens: int
    apart: tuple[int, int]
    prompts: tuple[str, str] = ("", "")

    @property
    def family(self) -> Family:
        """How it reads."""
        return "cross_encoder" if isinstance(self.model, CrossEncoder) else "bi_encoder"


def check_systems(study: Study) -> None:
    """Read every system once, so that one that cannot work stops the study before anything is trained.

    Raises:
        StudyError: one cannot be measured as it is.
    """
    for name in study.systems:
        read_system(study, name)


def read_system(study: Study, name: str) -> Published:
    """Return a study's system, ready to score.

    Raises:
        StudyError: it cannot be measured as it is.
    """
    system = study.systems[name]
    source = study.source_of(system.pretrained)
    return read_published(
        f"systems.{name}", source, system.pair_tokens, system.decoder, system.layers, system.t5, system.prompts
    )


def read_published(
    field: str,
    source: str,
    pair_tokens: int | None = None,
    decoder: DecoderSettings | None = None,
    layers: int | None = None,
    t5: T5Settings | None = None,
    prompts: Prompts | None = None,
) -> Published:
    """Return the finished model of an id or folder in float32; without `pair_tokens` it reads as much as it can.

    decoder: how it scores where it is a decoder; None: by its own head or words, in its tokenizer's layout of pairs.
    layers: how many are kept, from the first; None: all. t5: how it scores where it is a T5; None: as its name or card
    says. prompts: of a bi-encoder; None: its folder's.

    Raises:
        StudyError: it is neither kind of model, needs what is not known here, or cannot be read.
    """
    config = read_config(field, source, layers)
    if t5 and config.model_type not in T5S:
        raise StudyError(f"{field}.t5: {source!r} is a {config.model_type} model, no T5: remove it.")
    if prompts and (is_classifier(config) or not makes_embeddings(source)):
        raise StudyError(f"{field}.prompts: {source!r} is no bi-encoder: remove it.")
    if is_decoder(config):
        return _read_decoder(field, source, config, pair_tokens, decoder)
    if decoder:
        raise StudyError(f"{field}.decoder: {source!r} is a {config.model_type} model, no decoder: remove it.")
    if config.model_type in T5S:
        if layers:
            raise StudyError(f"{field}.layers: {source!r}: a T5 is kept whole, as its decoder reads its encoder.")
        return _read_t5(field, source, config, pair_tokens, t5)
    if config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES or config.is_encoder_decoder:
        raise StudyError(
            f"{field} = {source!r} is a {config.model_type} model: a system is an encoder, a decoder or a T5."
        )
    if not is_classifier(config) and not makes_embeddings(source):
        raise StudyError(
            f"{field} = {source!r} has neither a head for scores nor, in modules.json, a pooling: it is no finished "
            "reranker or bi-encoder; train it as a rung of the ladder, or name one that is finished."
        )
    tokenizer, special, segments = read_tokenizer(field, source)
    refuse_few_words(field, source, config, tokenizer.get_vocab_size())
    longest, settings = longest_read(field, source, config, pair_tokens), of_transformer(source)
    if is_classifier(config):
        model = _read_reranker(field, source, config)
        return Published(model, tokenizer, special, segments, longest, (longest, longest), prompts_of(source))
    apart = tuple(min(settings.get(f"{kind}_length") or longest, longest) for kind in ("query", "document"))
    encoder, own = read_encoder(field, source, config), read_own_layers(field, source, config)
    refuse_padded(field, source, encoder)
    model = BiEncoder(encoder, own.dimensions, own.pooling, own.projection).eval()
    before = (prompts.query, prompts.document) if prompts else prompts_of(source)
    refuse_long_prompts(field, tokenizer, before, apart)
    return Published(model, tokenizer, special, False, longest, apart, before)


def _read_decoder(
    field: str, source: str, config: PretrainedConfig, pair_tokens: int | None, settings: DecoderSettings | None
) -> Published:
    if makes_embeddings(source):
        raise StudyError(
            f"{field} = {source!r} is a bi-encoder on a decoder ({config.model_type}): name one on an encoder."
        )
    says_words = settings.verdict if settings else getattr(config, "verdict", None)
    if not is_classifier(config) and not says_words:
        raise StudyError(
            f"{field} = {source!r} has no head for scores: set {field}.decoder.score: yes_no, whose words its language "
            "model was trained to say, or name a reranker that is finished."
        )
    if not settings and not getattr(config, "prompt", None) and read_wrapped(field, source).chat_template:
        raise StudyError(
            f"{field} = {source!r}: its tokenizer has a chat template, in which its users' tools lay out pairs, and "
            f"those here do not: give {field}.decoder.template the prompt that it was trained with, or take the "
            "template out of a local copy."
        )
    layout = read_tokenizer(field, source, settings.prompt if settings else "")
    refuse_few_words(field, source, config, layout[0].get_vocab_size())
    longest = longest_read(field, source, config, pair_tokens)
    _refuse_short(field, layout[0], longest)
    if settings:
        config = for_decoder(field, source, config, settings)
    elif not says_words:
        config = for_scores(field, source, config)
    refuse_other_scores(field, source, read_decoder(field, source, config))  # which is used up
    model = reranker_of(read_decoder(field, source, config)).eval()
    return Published(model, *layout, longest, (longest, longest), ("", "") if settings else prompts_of(source))


def _read_t5(
    field: str, source: str, config: PretrainedConfig, pair_tokens: int | None, given: T5Settings | None
) -> Published:
    if not any(name.endswith("ForConditionalGeneration") for name in config.architectures or ()):
        raise StudyError(
            f"{field} = {source!r} is a {config.model_type} model that writes nothing ({config.architectures}): a T5 "
            "reranks here by what it would write, so name a whole one."
        )
    settings = settings_of_t5(field, source, config, given)
    words, layout = word_ids(field, source, settings), read_tokenizer(field, source)
    refuse_few_words(field, source, config, layout[0].get_vocab_size())
    lay_out(layout[0], settings.prompt, ended=True)
    longest = longest_read(field, source, config, pair_tokens)
    _refuse_short(field, layout[0], longest)
    return Published(T5Reranker(read_t5(field, source), words).eval(), *layout, longest, (longest, longest))


def _refuse_short(field: str, tokenizer: Tokenizer, longest: int) -> None:
    """Refuse lengths that leave no room beside a prompt."""
    if longest < (wanted := PairLayout.of(tokenizer).special + 2):
        raise StudyError(
            f"{field}.pair_tokens = {longest}: its prompt and a word of both texts take {wanted}: raise it."
        )


def _read_reranker(field: str, source: str, config: PretrainedConfig) -> CrossEncoder:
    config = for_scores(field, source, config)
    refuse_other_scores(field, source, read_classifier(field, source, config))  # which is used up
    return CrossEncoder.of(read_classifier(field, source, config)).eval()


def longest_read(field: str, source: str, config: PretrainedConfig, wanted: int | None = None) -> int:
    """Return the most tokens that are read, as sentence-transformers finds it, or fewer where fewer are wanted.

    Raises:
        StudyError: more are wanted than can be read, or there is no tokenizer.
    """
    settings, tokenizer = of_transformer(source), read_wrapped(field, source)
    if tokenizer.truncation_side == "left":
        raise StudyError(
            f"{field} = {source!r}: its tokenizer cuts texts on the left, and here their ends give way: name "
            "another, or take truncation_side out of a local copy's tokenizer_config.json."
        )
    of_tokenizer = tokenizer.model_max_length
    if config.model_type in T5S:  # whose positions have no end
        return wanted or min(of_tokenizer, READS_AT_MOST)
    own = min(settings.get("max_seq_length") or of_tokenizer, most_tokens(config))
    if wanted is not None and wanted > own:
        raise StudyError(f"{field}.pair_tokens = {wanted}: {source!r} reads {own} tokens at most: lower it.")
    return wanted or own
