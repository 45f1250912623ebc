"""A prompt as a tokenizer's layout of pairs, so that whoever has the tokenizer lays out pairs alike."""

from tokenizers import Tokenizer, normalizers, processors

from .pair_layout import PairLayout

NAMES = ("[before]", "[between]", "[after]")  # of the pieces in a layout


def lay_out(tokenizer: Tokenizer, prompt: str, normalizes: bool = True, ended: bool = False) -> None:
    """Let a tokenizer put pairs into a prompt with {query} and {document}, after the token that begins all its texts
    and, where it is `ended`, before the one that ends them.

    The prompt's pieces become special tokens, which truncation leaves alone. Texts are tokenised apart from them; a
    blank before a text belongs to its first word, as tokenizers have it that mark where words begin, and byte-level
    ones, unless these may get no normalizer of their own (`normalizes`), where the blank stays in the prompt.
    """
    if any(map(_is_blank, kept := _normalizers(tokenizer))):  # of another prompt, in which the model was trained
        tokenizer.normalizer = normalizers.Sequence([part for part in kept if not _is_blank(part)])
    begin, end = (around.ids for around in PairLayout.of(tokenizer).alone)
    before, rest = prompt.split("{query}")
    between, after = rest.split("{document}")
    marks = _marks_words(tokenizer)
    blank = normalizes and before.endswith(" ") and between.endswith(" ") and not marks
    if marks or blank:
        before, between = before.removesuffix(" "), between.removesuffix(" ")
    pieces = [tokenizer.encode(piece, add_special_tokens=False).ids for piece in (before, between, after)]
    if tuple(pieces[0][: len(begin)]) != begin:
        pieces[0] = [*begin, *pieces[0]]
    pieces[2] += end if ended else ()
    if blank:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(" "), *_normalizers(tokenizer)])
    names = [name if piece else "" for name, piece in zip(NAMES, pieces, strict=True)]
    named = [*zip(names, pieces, strict=True), ("[begin]" * bool(begin), begin)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join(["[begin]"] * bool(begin) + ["$A"]),
        pair=" ".join(filter(None, (names[0], "$A", names[1], "$B", names[2]))),
        special_tokens=[
            {"id": name, "ids": list(ids), "tokens": [tokenizer.id_to_token(token) for token in ids]}
            for name, ids in named
            if name
        ],
    )


def _normalizers(tokenizer: Tokenizer) -> list[normalizers.Normalizer]:
    """Return a tokenizer's normalizers, one by one."""
    found = tokenizer.normalizer
    if isinstance(found, normalizers.Sequence):
        return [found[place] for place in range(len(found))]
    return [found] if found else []


def _is_blank(normalizer: normalizers.Normalizer) -> bool:
    return isinstance(normalizer, normalizers.Prepend) and normalizer.prepend == " "


def _marks_words(tokenizer: Tokenizer) -> bool:
    """Say whether a word has the same tokens at the beginning of a text and after a blank."""
    alone, after = (tokenizer.encode(text, add_special_tokens=False).tokens for text in ("a", "a a"))
    return after == alone * 2
