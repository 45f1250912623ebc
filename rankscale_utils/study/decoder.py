"""How a decoder reranks: the prompt that it reads a pair in, and what of it is the score."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from .fields import Part, refusal

PROMPTS = {  # Qwen3-Reranker's is that of its model card, huggingface.co/Qwen/Qwen3-Reranker-0.6B
    "plain": "Query: {query}\nDocument: {document}\nRelevant:",
    "qwen3-reranker": (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
        "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n"
        "<Query>: {query}\n<Document>: {document}"
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    ),
}


def prompt_faults(template: str, named: dict[str, str]) -> Iterator[str]:
    """Yield why a template is neither a named one nor a prompt for a query and then a document."""
    prompt = named.get(template, template)
    if (prompt.count("{query}"), prompt.count("{document}")) != (1, 1):
        yield (
            f"must hold {{query}} and {{document}}, each once, or be one of {', '.join(named)}: {template!r} is neither"
        )
    elif prompt.index("{query}") > prompt.index("{document}"):
        yield "names {document} before {query}: candidates share what they read of the query, so it comes first"
    elif not prompt.replace("{query}", "").replace("{document}", "").strip():
        yield "has no words of its own, which leaves nothing to read of empty texts: add some, such as Query: "


class DecoderSettings(Part):
    """How rungs that are decoders (Qwen, Llama, …) read a pair, and what makes their score."""

    template: str = Field(
        "plain",
        description="the prompt, with {query} and then {document}, whose own words are never cut; or the name of one: "
        + ", ".join(PROMPTS),
    )
    score: Literal["head", "yes_no"] | None = Field(
        None,
        description="head: a linear layer on the last token's state, as AutoModelForSequenceClassification has it; "
        "yes_no: the logit of the first of `words` less that of the second, after the prompt; absent: yes_no with "
        "qwen3-reranker's prompt, else head",
    )
    words: tuple[str, str] = Field(("yes", "no"), description="of yes_no, each a single token, the relevant one first")

    @refusal("template")
    def _no_places(template: str, _: dict) -> Iterator[str]:
        yield from prompt_faults(template, PROMPTS)

    @property
    def prompt(self) -> str:
        """The text that a pair is read in."""
        return PROMPTS.get(self.template, self.template)

    @property
    def verdict(self) -> tuple[str, str] | None:
        """The words whose logits make the score; None where a head does."""
        score = self.score or ("yes_no" if self.template == "qwen3-reranker" else "head")
        return self.words if score == "yes_no" else None
