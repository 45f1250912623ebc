"""Kinds of fields that every section of a study shares: numbers, folder names, and how a refusal is said."""

import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator


def _number(value: Any) -> Any:
    """Read a number that YAML takes for a word, such as 1e5; yes and no, which are 1 and 0 to Python, are none."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not yes or no")
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _folder_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        raise ValueError(
            "becomes a folder's name: use letters, digits, dots, dashes and underscores, and begin with no dot or dash"
        )
    return name


def refusal(field: str) -> Callable[[Callable[[Any, dict], Iterator[str]]], Any]:
    """Let a part refuse a field for every sentence that the function makes of it and the valid fields before it."""

    def validator(sentences: Callable[[Any, dict], Iterator[str]]) -> Any:
        def check(_: type, value: Any, info: Any) -> Any:
            if mistakes := list(sentences(value, info.data)):
                raise ValueError(*mistakes)
            return value

        return field_validator(field)(classmethod(check))

    return validator


MOST = 2**53  # up to it every whole number is a float
Whole = Annotated[int, BeforeValidator(_number), Field(ge=-MOST, le=MOST)]
Finite = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
FolderName = Annotated[str, AfterValidator(_folder_name)]


class Part(BaseModel):
    """A part of a study: unknown fields are mistakes, and values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @field_validator("*")
    @classmethod
    def _different(cls, value: Any) -> Any:
        """Refuse an entry of a list that stands twice, and names that only case tells apart, as folders may not."""
        if isinstance(value, tuple):
            if twice := [entry for place, entry in enumerate(value) if entry in value[:place]]:
                raise ValueError(f"{twice[0]!r} stands twice: remove one of them")
        elif isinstance(value, dict):
            names: dict[str, str] = {}
            for name in filter(lambda name: isinstance(name, str), value):
                if (other := names.setdefault(name.casefold(), name)) != name:
                    raise ValueError(f"only case tells {other} and {name} apart: rename one of them")
        return value
