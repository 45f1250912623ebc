"""Who attests when forecasts were sealed."""

from pathlib import Path
from typing import Any

from pydantic import Field

from .fields import Part


class TimeStamp(Part):
    """A time-stamp authority (RFC 3161), which is asked for a token over each seal's hash when it is written."""

    authority: str = Field(pattern=r"^https?://\S+$", description="the address that answers time-stamp queries")
    certificates: Path | None = Field(
        None,
        description="a PEM file, relative to the YAML, of the certificates that the authority's token is checked "
        "against; absent: those that the system trusts",
    )


def named_authority(given: Any) -> Any:
    """Return the fields of an authority that is named by its address alone."""
    return {"authority": given} if isinstance(given, str) else given
