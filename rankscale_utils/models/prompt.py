"""A prompt as a tokenizer's layout of pairs, so that whoever has the tokenizer lays out pairs alike."""

from tokenizers import Tokenizer, normalizers, processors

from .pair_layout import PairLayout

NAMES = ("[before]", "[between]", "[after]")  # of the pieces in a layout


def lay_out(tokenizer: Tokenizer, prompt: str, normalizes: bool = True) -> None:
    """Let a tokenizer put pairs into a prompt with {query} and {document}, after the token that begins all its texts.

    The prompt's pieces become special tokens, which truncation leaves alone. Texts are tokenised apart from them; a
    blank before both texts belongs to their first words, as byte-level tokenizers have it, unless the tokenizer may
    get no normalizer of its own (`normalizes`), where the blank stays in the prompt.
    """
    begin = PairLayout.of(tokenizer).alone[0].ids
    before, rest = prompt.split("{query}")
    between, after = rest.split("{document}")
    blank = normalizes and before.endswith(" ") and between.endswith(" ") and not _marks_words(tokenizer)
    if blank:
        before, between = before[:-1], between[:-1]
    pieces = [tokenizer.encode(piece, add_special_tokens=False).ids for piece in (before, between, after)]
    if tuple(pieces[0][: len(begin)]) != begin:
        pieces[0] = [*begin, *pieces[0]]
    if blank:
        first = normalizers.Prepend(" ")
        tokenizer.normalizer = normalizers.Sequence([first, tokenizer.normalizer]) if tokenizer.normalizer else first
    names = [name if piece else "" for name, piece in zip(NAMES, pieces, strict=True)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A",
        pair=" ".join(filter(None, (names[0], "$A", names[1], "$B", names[2]))),
        special_tokens=[
            {"id": name, "ids": piece, "tokens": [tokenizer.id_to_token(token) for token in piece]}
            for name, piece in zip(names, pieces, strict=True)
            if name
        ],
    )


def _marks_words(tokenizer: Tokenizer) -> bool:
    """Say whether a word has the same tokens at the beginning of a text and after a blank."""
    alone, after = (tokenizer.encode(text, add_special_tokens=False).tokens for text in ("a", "a a"))
    return after == alone * 2
