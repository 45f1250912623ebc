"""How a T5 that exists reranks: the prompt that it reads a pair in, and the words that make its score."""

from collections.abc import Iterator

from pydantic import Field

from .decoder import prompt_faults
from .fields import Part, refusal

PROMPTS = {  # as pygaggle has monoT5's, and RankT5's paper its own
    "monot5": "Query: {query} Document: {document} Relevant:",
    "rankt5": "Query: {query} Document: {document}",
}
WORDS = {"rankt5": ("<extra_id_10>",)}  # of templates whose models say others than true and false


class T5Settings(Part):
    """How a T5 reads a pair, and what makes its score."""

    template: str = Field(
        "monot5",
        description="the prompt, with {query} and then {document}, whose own words are never cut; or the name of one: "
        + ", ".join(PROMPTS),
    )
    words: tuple[str, ...] = Field(
        (),
        max_length=2,
        description="that the decoder says first, each a single token: the relevant one and the other, whose "
        "log-probability against it is the score; or one alone, whose logit is; absent: true and false, or rankt5's",
    )

    @refusal("template")
    def _no_places(template: str, _: dict) -> Iterator[str]:
        yield from prompt_faults(template, PROMPTS)

    @property
    def prompt(self) -> str:
        """The text that a pair is read in."""
        return PROMPTS.get(self.template, self.template)

    @property
    def verdict(self) -> tuple[str, ...]:
        """The words that make the score."""
        return self.words or WORDS.get(self.template, ("true", "false"))
