"""What is read of Hugging Face ids and local folders: their files, or one sentence why one cannot be."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers.utils import cached_file, logging

from rankscale_utils.errors import StudyError


def of_transformer(source: str) -> dict[str, Any]:
    """Return what a folder of sentence-transformers says of its encoder: max_seq_length, do_lower_case, …"""
    return (json_of(source, "modules.json") and json_of(source, "sentence_bert_config.json")) or {}


def file_of(source: str, name: str) -> Path | None:
    """Return a file of an id or folder, or None where it has none."""
    found = cached_file(
        source,
        name,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return Path(found) if found else None


def json_of(source: str, name: str) -> Any:
    """Return what a JSON file of an id or folder holds, or None where it has none."""
    if not (path := file_of(source, name)):
        return None
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"{source!r}: its {name} cannot be read ({error}): fetch the model again.") from None


@contextmanager
def reading(field: str, source: str, what: str) -> Iterator[None]:
    """Say in one sentence why a part of an id or folder cannot be read, where it cannot."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # tensors that are not used are no news, and those that lack are refused
    logging.disable_progress_bar()  # it would stay in the page that a notebook becomes
    try:
        yield
    except Exception as error:  # of many kinds: OSError (missing, gated, offline), ValueError, SafetensorError, …
        reason = str(error).strip().split("\n")[0].rstrip(".:")
        if "trust_remote_code" in str(error):
            raise StudyError(
                f"{field} = {source!r}: its {what} needs code of its own, and no code of others is run here: name a "
                "model of an architecture that transformers has."
            ) from error
        raise StudyError(
            f"{field} = {source!r}: its {what} cannot be read ({reason}): name a local folder that holds the "
            "model, or point HF_HOME at a cache that does (with HF_HUB_OFFLINE=1 where there is no network); a gated "
            "model needs HF_TOKEN."
        ) from error
    finally:
        logging.set_verbosity(verbosity)
