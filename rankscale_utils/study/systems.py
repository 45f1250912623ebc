"""Models that exist, measured as they are beside the ladder: by name, as Hugging Face ids or folders."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from .decoder import DecoderSettings
from .fields import FolderName, Part, Whole
from .ladder import Prompts, named_source
from .t5 import T5Settings


class ExistingModel(Part):
    """A reranker or bi-encoder that others trained."""

    pretrained: str = Field(min_length=1)
    layers: Whole | None = Field(
        None,
        gt=0,
        description="that are kept, from the first, as of a rung before its first step; absent: all",
    )
    decoder: DecoderSettings | None = Field(
        None,
        description="of a decoder, the prompt that it was trained with, and what of it is the score; absent: its own "
        "head, or words, and its tokenizer's own layout of pairs",
    )
    t5: T5Settings | None = Field(
        None, description="of a T5, the prompt and words that it was trained with; absent: as its name or card says"
    )
    prompts: Prompts | None = Field(
        None, description="of a bi-encoder, before queries and before documents; absent: its folder's"
    )
    pair_tokens: Whole | None = Field(
        None, ge=8, description="the most that it reads of a pair, or of a text read alone; absent: its own limit"
    )


Systems = dict[FolderName, Annotated[ExistingModel, BeforeValidator(named_source)]]
