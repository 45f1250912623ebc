"""What stands before texts that are read: the prompts of folders of sentence-transformers, or a study's own."""

from tokenizers import Tokenizer

from rankscale_utils.errors import StudyError
from rankscale_utils.study.study import Study

from .own_layers import makes_embeddings
from .source import of_folder

OF_QUERIES, OF_DOCUMENTS = ("query",), ("document", "passage", "corpus")  # sentence-transformers' own names


def prompts_of(source: str) -> tuple[str, str]:
    """Return what sentence-transformers puts before a query and before a document, of a reranker its default prompt."""
    told = of_folder(source)
    named = told.get("prompts") or {}
    if told.get("model_type") == "CrossEncoder":
        return named.get(told.get("default_prompt_name")) or "", ""
    return tuple(next((named[name] for name in names if named.get(name)), "") for names in (OF_QUERIES, OF_DOCUMENTS))


def refuse_long_prompts(field: str, tokenizer: Tokenizer, prompts: tuple[str, str], longest: tuple[int, int]) -> None:
    """Refuse prompts that leave no room for a query or a document; longest: of both, special tokens included."""
    for kind, prompt, room in zip(("query", "document"), prompts, longest, strict=True):
        if (taken := len(tokenizer.encode(prompt).ids)) >= room:
            raise StudyError(
                f"{field}.prompts.{kind}: {prompt!r} takes {taken} of the {room} tokens that are read, which leaves no "
                "text behind it: shorten it, or let more tokens be read."
            )


def prompts_of_study(study: Study) -> tuple[str, str]:
    """Return what rungs that are bi-encoders read before every query and before every document.

    Raises:
        StudyError: rungs' folders name different prompts, or other families would read them too.
    """
    if "bi_encoder" not in study.families:
        return "", ""
    settings, found = study.bi_encoder, {("", "")}
    if settings.prompts:
        found = {(settings.prompts.query, settings.prompts.document)}
    elif study.pretrained and not settings.dimensions:
        found = {prompts_of(source) if makes_embeddings(source) else ("", "") for source in study.pretrained.values()}
    if len(found) > 1:
        each = " and ".join(map(str, sorted(found)))
        raise StudyError(
            f"ladder: rungs' folders put different prompts before queries and documents, {each}, and all rungs read "
            "the same texts: name theirs, such as bi_encoder.prompts: {query: 'query: ', document: 'passage: '}."
        )
    (prompts,) = found
    if any(prompts) and len(study.families) > 1:
        raise StudyError(
            f"bi_encoder.prompts: {prompts} would stand before what the other families read too: study bi-encoders "
            "alone, or without prompts ({query: '', document: ''})."
        )
    return prompts
