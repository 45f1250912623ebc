"""A study from its YAML: found, read, validated; whatever is wrong is said in sentences."""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import ValidationError

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.encoding import decode_utf8, instead_of_utf8

from . import paths
from .archive import unpacked_study
from .arguments import checked, path
from .fields import Part
from .study import Study

Section = TypeVar("Section", bound=Part)
LONGEST_SHOWN = 200  # characters of a value in a message
TRUTH = "must be true or false"
OTHERWISE = {"string_type": "must be text: write it in quotes", "bool_type": TRUTH, "bool_parsing": TRUTH}


def find_study(study: str | Path) -> Path:
    """Return the YAML of a study given by name (`params/NAME.yaml`), by its path, or by that of a zip that holds it.

    Raises:
        StudyError: there is no such file; the message lists the studies there are.
    """
    given = Path(study)
    if given.suffix == ".zip":
        return unpacked_study(given if given.is_file() else paths.ROOT / given)
    places = (
        [given, paths.ROOT / given]
        if given.suffix in (".yaml", ".yml")
        else [folder / "params" / f"{study}.yaml" for folder in (paths.ROOT, paths.shipped_folder())]
    )
    for place in places:
        if place.is_file():
            return place.resolve()
    folders = {paths.ROOT, paths.shipped_folder()} if not paths.IN_CHECKOUT else {paths.ROOT}
    known = ", ".join(sorted(path.stem for folder in folders for path in (folder / "params").glob("*.yaml")))
    raise StudyError(f"study {str(study)!r} is neither a YAML file nor one of params/: {known}.")


@checked(study=path)
def open_study(study: str | Path) -> Study:
    """Return a study, whose `results()` are the tables that it wrote, by name.

    Parameters
    ----------
    study
        The name of a YAML in params/, any YAML's path, or that of a zip that `rankscale zip` made.

    Returns
    -------
    Study
        With every setting as a field, and `results()`: a mapping of names to tables, each read when it is asked for.

    Raises
    ------
    StudyError
        There is no such study, or its YAML has mistakes; one message names them all.

    Examples
    --------
    >>> import rankscale_utils as rankscale
    >>> study = rankscale.open_study("published")
    >>> study.held_out.rungs, study.forecasting.headline
    (('400m', '1b'), 'nDCG@10')
    >>> forecasts = study.results().get("forecasts")  # None until the study has run
    """
    return load_study(study)


def study_given(study: Study | str | Path) -> Study:
    """Return a study that is given as such, by its name or by its YAML's path.

    Raises:
        StudyError: there is no such study, or its YAML has mistakes.
    """
    return study if isinstance(study, Study) else open_study(study)


def load_study(study: str | Path) -> Study:
    """Return the validated study of a name or a path.

    Raises:
        StudyError: one message that names every mistake at once, with field, value and remedy.
    """
    source = find_study(study)
    fields = read_fields(source, "`field: value` lines, as params/demo.yaml does")
    mistakes = _between(fields)
    try:
        study = Study.model_validate(fields | {"name": source.stem, "source": source})
    except ValidationError as error:
        mistakes += [sentence for mistake in error.errors() for sentence in _sentences(mistake)]
    if mistakes:
        raise StudyError(_said(source.name, mistakes))
    return study


def read_fields(source: Path, written: str) -> dict[str, Any]:
    """Return what a YAML file says, by its fields.

    written: what to write into one that holds none.

    Raises:
        StudyError: it is not YAML, or holds none.
    """
    try:
        fields = _fields(source)
    except yaml.YAMLError as error:
        raise StudyError(f"{source.name} is not YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(fields, dict):
        raise StudyError(f"{source.name} holds no fields: write {written}.")
    return fields


def read_section(section: type[Section], fields: dict[str, Any], source: str = "") -> Section:
    """Return a section of a study from fields that were given without a study, or stand in a file of that name.

    Raises:
        StudyError: one message that names every mistake at once, with field, value and remedy.
    """
    try:
        return section.model_validate(fields)
    except ValidationError as error:
        found = [_sentences(mistake, section, source or "a study") for mistake in error.errors()]
        mistakes = [sentence for sentences in found for sentence in sentences]
        raise StudyError(_said(source or section.__name__.lower(), mistakes)) from None


def _said(name: str, mistakes: list[str]) -> str:
    if len(mistakes) > 1:
        mistakes = [f"{len(mistakes)} mistakes:", *(f"({n}) {said}" for n, said in enumerate(mistakes, 1))]
    return f"{name}: {' '.join(mistakes)}".replace("\n", "\\n")


def _fields(source: Path) -> Any:
    loader = _EveryKeyOnce(_text(source))
    loader.name = source.name
    try:
        return loader.get_single_data() or {}
    except RecursionError:
        raise StudyError(f"{source.name} nests lists or fields too deeply to be read: write fewer levels.") from None


def _text(source: Path) -> str:
    lines = source.read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        if decode_utf8(line) is None:
            raise StudyError(f"{source.name} {instead_of_utf8(lines[0], line, number)}.")
    return b"\n".join(lines).decode("utf-8-sig")


class _EveryKeyOnce(yaml.SafeLoader):
    """A loader that refuses a key which is written twice, of which the last one would win.

    What YAML cannot make a value of, such as a month 13, is a mistake of the file, with its line.
    """

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return the value of a node.

        Raises:
            StudyError: it has none.
        """
        if (base := _another_base(node)) is not None:
            raise StudyError(
                f"{self.name}, line {node.start_mark.line + 1}: {node.value} is {super().construct_object(node, deep)} "
                f"to YAML, which reads {base}: write the number otherwise, or a name in quotes."
            )
        try:
            return super().construct_object(node, deep)
        except StudyError:
            raise
        except (ValueError, TypeError, LookupError, AttributeError) as error:  # as YAML's constructors have them
            line, tag = node.start_mark.line + 1, node.tag.rpartition(":")[2]
            raise StudyError(f"{self.name}, line {line}: this is no {tag} ({error}): correct it.") from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """Return a mapping, each of whose keys stands once."""
        lines: dict[str, int] = {}
        pairs = node.value if isinstance(node, yaml.MappingNode) else []  # what is none is refused below
        for key, _ in pairs:
            line, name = key.start_mark.line + 1, str(key.value)
            if key.tag != "tag:yaml.org,2002:merge" and lines.setdefault(name, line) != line:
                raise StudyError(f"{self.name}: {name} stands on lines {lines[name]} and {line}: remove one of them.")
        return super().construct_mapping(node, deep)


def _another_base(node: yaml.Node) -> str | None:
    """Return what makes YAML read a number in another base than ten without a word, which nobody means."""
    if not isinstance(node, yaml.ScalarNode) or node.tag.rpartition(":")[2] not in ("int", "float"):
        return None
    digits = node.value.lstrip("+-").replace("_", "")
    if ":" in digits:
        return "numbers with colons in base 60"
    octal = node.tag.endswith("int") and digits.isdigit() and digits[0] == "0" and int(digits, 8) != int(digits)
    return "numbers with leading zeros in base 8" if octal else None


def _between(fields: dict) -> list[str]:
    """Return what is wrong with the choice of fields, whatever they hold."""
    mistakes = [
        f"{field} comes from the file's own name: remove the field." for field in ("name", "source") if field in fields
    ]
    if "architecture" in fields and _is_pretrained(fields.get("ladder")):
        mistakes.append(
            f"architecture = {fields['architecture']!r}: pretrained rungs bring their own: remove the field."
        )
    needed = ("ladder", "objectives", "training")
    missing = [field for field in needed if not fields.get(field)]
    if fields.get("measurements") is None:
        if missing:
            mistakes.append(f"{', '.join(missing)} missing: write them, or point `measurements` at a CSV.")
    elif len(missing) < len(needed):
        mistakes.append("measurements and ladder, objectives or training exclude each other: drop one side.")
    return mistakes


def _is_pretrained(ladder: Any) -> bool:
    rungs = ladder.values() if isinstance(ladder, dict) else [ladder]
    return any(isinstance(rung, str | list) for rung in rungs)


def _sentences(mistake: dict[str, Any], section: type[Part] = Study, whole: str = "a study") -> list[str]:
    kind, value = mistake["type"], mistake["input"]
    field = ".".join(str(place) for place in mistake["loc"] if not str(place).startswith("["))
    if kind == "too_short" and mistake["ctx"]["actual_length"] < len(value):  # invalid items are mistakes themselves
        return []
    if kind == "extra_forbidden":
        name, fields = str(mistake["loc"][-1]), _fields_beside(mistake["loc"], section)
        if name in fields:  # of another kind of what stands there, such as a pretrained rung
            return [f"{field} does not go with the fields beside it: remove it, or them."]
        near = difflib.get_close_matches(name, fields, n=1)
        return [f"{field} is not a field of {whole}" + (f", did you mean {near[0]}?" if near else ".")]
    if kind == "missing":
        return [f"{field} is missing: add it."]
    if kind == "model_type":
        parts = _fields_beside((*mistake["loc"], ""), section)
        return [f"{field} = {_shortened(value)}: must be a mapping with {' and '.join(parts)}, or some of them."]
    if kind == "tuple_type":
        return [f"{field} = {_shortened(value)}: must be a list."]
    if kind == "invalid_key":
        return [f"{field} is not a field of {whole}: field names are words."]
    if kind in OTHERWISE:
        return [f"{field} = {_shortened(value)}: {OTHERWISE[kind]}."]
    reasons = mistake["ctx"]["error"].args if kind == "value_error" else (mistake["msg"].lower(),)
    return [f"{field} = {_shortened(value)}: {reason}." for reason in reasons]


def _shortened(value: Any) -> str:
    """Return a value as it was written, but for what is too long for a sentence."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _fields_beside(location: tuple[int | str, ...], section: type[Part]) -> list[str]:
    """Return the names of the fields that may stand where a mistake stands in a section."""
    parts: set[type[Part]] = {section}
    for place in location[:-1]:
        kinds = [part.model_fields[place].annotation for part in parts if place in part.model_fields]
        parts = {part for kind in kinds for part in _parts_of(kind)} or parts
    return [name for part in parts for name in part.model_fields]


def _parts_of(kind: Any) -> Iterator[type[Part]]:
    """Yield the sections that an annotation speaks of."""
    if isinstance(kind, type) and issubclass(kind, Part):
        yield kind
    for inner in get_args(kind):
        yield from _parts_of(inner)
