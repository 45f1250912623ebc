"""What is read of Hugging Face ids and local folders: their files, or one sentence why one cannot be."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Required

from pydantic import TypeAdapter, ValidationError
from transformers.utils import cached_file, logging
from typing_extensions import TypedDict

from rankscale_utils.errors import StudyError


class OfFolder(TypedDict, total=False):
    """What is read of a folder's config_sentence_transformers.json."""

    model_type: str | None
    prompts: dict[str, str | None] | None
    default_prompt_name: str | None
    similarity_fn_name: str | None
    truncate_dim: int | None


class OfTransformer(TypedDict, total=False):
    """What is read of its sentence_bert_config.json."""

    max_seq_length: int | None
    query_length: int | None
    document_length: int | None
    do_lower_case: bool | None


class OfModule(TypedDict):
    """What is read of each module in its modules.json."""

    type: str
    path: str


class OfDense(TypedDict, total=False):
    """What is read of a dense layer's config.json."""

    in_features: Required[int]
    out_features: Required[int]
    bias: bool
    activation_function: str
    use_residual: bool | None


def of_folder(source: str) -> OfFolder:
    """Return what a folder of sentence-transformers says of itself: prompts, similarity_fn_name, …"""
    return json_of(source, "config_sentence_transformers.json", OfFolder) or {}


def of_modules(source: str) -> list[OfModule]:
    """Return the modules of sentence-transformers that a folder lists; none where there is no such list."""
    return json_of(source, "modules.json", list[OfModule]) or []


def of_transformer(source: str) -> OfTransformer:
    """Return what a folder of sentence-transformers says of its encoder: max_seq_length, do_lower_case, …"""
    return (of_modules(source) and json_of(source, "sentence_bert_config.json", OfTransformer)) or {}


def file_of(source: str, name: str) -> Path | None:
    """Return a file of an id or folder, or None where it has none."""
    found = cached_file(
        source,
        name,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return Path(found) if found else None


def json_of(source: str, name: str, kind: Any) -> Any:
    """Return what a JSON file of an id or folder holds, which is of this type, or None where it has none."""
    if not (path := file_of(source, name)):
        return None
    try:
        return TypeAdapter(kind | None).validate_python(json.loads(path.read_text("utf-8")), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "all of it"
        why = f"{place} is {first['input']!r}: {first['msg']}"
    except (OSError, ValueError) as error:
        why = str(error)
    raise StudyError(f"{source!r}: its {name} cannot be read ({why}): fetch the model again.")


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
