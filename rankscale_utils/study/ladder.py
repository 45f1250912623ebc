"""The rungs of a ladder: shapes from scratch, or pretrained weights by name."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator

from .fields import FolderName, Part, Whole, refusal

ETTIN = "jhu-clsp/ettin-encoder-"
ETTIN_SHAPES = {  # layers, hidden, MLP, heads: arXiv 2507.11412
    "17m": (7, 256, 384, 4),
    "32m": (10, 384, 576, 6),
    "68m": (19, 512, 768, 8),
    "150m": (22, 768, 1152, 12),
    "400m": (28, 1024, 2624, 16),
    "1b": (28, 1792, 3840, 28),
}
LADDERS = {"ettin": {size: ETTIN + size for size in ETTIN_SHAPES}}


class Rung(Part):
    """One model size of the ladder: the hidden size is the dial, and the other shapes follow from it unless given."""

    hidden: Whole = Field(gt=0)
    layers: Whole = Field(2, gt=0)
    heads: Whole = Field(0, ge=0, description="0: one for every 16 of hidden, at least one")
    intermediate: Whole = Field(0, ge=0, description="MLP width; 0: twice hidden")

    @field_validator("heads", "intermediate")
    @classmethod
    def _follow(cls, given: int, info: Any) -> int:
        hidden = info.data.get("hidden", 0)
        return given or {"heads": max(1, hidden // 16), "intermediate": 2 * hidden}[info.field_name]

    @refusal("heads")
    def _indivisible(heads: int, earlier: dict) -> Iterator[str]:
        if (hidden := earlier.get("hidden", 0)) % heads:
            yield f"hidden {hidden} is not a multiple of heads {heads}: change one of them"


class Pretrained(Part):
    """One pretrained model of the ladder: a Hugging Face id, or a local folder that `save_pretrained` wrote."""

    pretrained: str = Field(min_length=1)
    layers: Whole | None = Field(None, gt=0, description="that are kept, from the first; absent: all")
    reads: Literal["cls", "mean", "query"] | None = Field(
        None,
        description="the states that a cross-encoder's new linear head reads: the first, the mean of all, or of the "
        "query's; absent: the head that transformers has for the architecture",
    )


def _by_name(ladder: Any) -> Any:
    """Return rungs by name for a known ladder's name or a list of ids, whose last parts become the names."""
    if isinstance(ladder, str):
        if ladder not in LADDERS:
            raise ValueError(f"no ladder has that name: write {', '.join(LADDERS)}, or a list of ids or folders")
        return LADDERS[ladder]
    if not isinstance(ladder, list):
        return ladder
    if strange := [source for source in ladder if not isinstance(source, str)]:
        raise ValueError(f"{strange} are no ids or folders: write `name: {{hidden: …}}` for a shape")
    names = [source.rstrip("/").split("/")[-1] for source in ladder]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{twice} name more than one rung: write `name: id` for each instead")
    return dict(zip(names, ladder, strict=True))


def _kind(rung: Any) -> str:
    named = isinstance(rung, str | Pretrained) or (isinstance(rung, dict) and "pretrained" in rung)
    return "[pretrained]" if named else "[shape]"


def named_source(model: Any) -> Any:
    """Return the fields of a model that is named by its id or folder alone."""
    return {"pretrained": model} if isinstance(model, str) else model


AnyRung = Annotated[
    Annotated[Rung, Tag("[shape]")] | Annotated[Pretrained, BeforeValidator(named_source), Tag("[pretrained]")],
    Discriminator(_kind),
]
Ladder = Annotated[dict[FolderName, AnyRung], BeforeValidator(_by_name)]


def _common(dimensions: Any) -> Any:
    """Return the dimensions that all rungs of a mapping project to."""
    if isinstance(dimensions, dict) and len(set(dimensions.values())) > 1:
        each = ", ".join(f"{rung} to {count}" for rung, count in dimensions.items())
        raise ValueError(f"rungs project to different dimensions ({each}): a ladder needs the same for all")
    return next(iter(dimensions.values()), dimensions) if isinstance(dimensions, dict) else dimensions


class Prompts(Part):
    """What stands before every text that a bi-encoder reads, such as E5's `query: ` and `passage: `."""

    query: str = ""
    document: str = ""


class BiEncoderSettings(Part):
    """How a bi-encoder makes an embedding of a text.

    Absent, a pretrained rung keeps what its folder of sentence-transformers says; others are as in arXiv 2403.18684.
    """

    dimensions: Annotated[Whole, BeforeValidator(_common)] | None = Field(
        None, gt=0, description="that every rung projects to, or a mapping of the rungs, which must agree; else 768"
    )
    pooling: Literal["mean", "cls"] | None = Field(None, description="of states; else mean")
    prompts: Prompts | None = Field(None, description="before queries and before documents; else none")

    @property
    def of_new_layers(self) -> dict[str, Any]:
        """What holds of a rung whose weights bring no layers for embeddings: dimensions and pooling."""
        return {"dimensions": self.dimensions or 768, "pooling": self.pooling or "mean"}


class Ed2lmSettings(Part):
    """The encoder of an ED2LM trained from scratch, and what its decoder reads."""

    encoder_layers: Whole | None = Field(None, gt=0, description="absent: as many as the decoder's, a rung's layers")
    poolings: tuple[Whole, ...] = Field(
        (1,), min_length=1, description="neighbouring document states that are averaged; each step trains one of them"
    )

    @refusal("poolings")
    def _no_pooling(poolings: tuple[int, ...], _: dict) -> Iterator[str]:
        if min(poolings, default=1) < 1 or len(set(poolings)) < len(poolings):
            yield "each is a number of tokens from 1 on, given once: correct them"
