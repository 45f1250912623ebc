"""A figure as SVG inside a page: named, in the page's own ink, and in few bytes."""

import hashlib
import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from . import figures

SMALLEST = 0.76  # of a figure's width: narrower, its text would be under eleven pixels
SPACE, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
PATH, USE = f"{SPACE}path", f"{SPACE}use"
DIGITS = 6  # of matplotlib's names of marks and clips, which are hashes
LINE = re.compile(r"M([\d.]+) ([\d.]+)l(-?[\d.]+) ?(-?[\d.]+)")  # a path of one step
AT_ITS_PLACE = "M0 0l"  # a mark that begins where it is put, as ticks do
NEAR = 0.2  # points: what lies within so much of a clip's edge is not cut
FIRST = ":where(svg[role=img]) *{stroke-linejoin:round;stroke-linecap:butt}"  # as matplotlib has it, in all figures
MARK = 20  # points: a path within so many is a mark
ElementTree.register_namespace("", SPACE[1:-1])


def inline_svg(svg: str) -> str:
    """Return a figure for use inside a page: named by its title and axes, its ink the page's, light or dark.

    It is shown no narrower than its text can be read; what holds it scrolls.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    parts = {part: text for part, text in re.findall(r'<g id="(title|x|y)">.*?<text[^>]*>(.*?)</text>', svg, re.DOTALL)}
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)  # one page holds many figures
    name, smallest = _name_of_figure(parts), SMALLEST * float(re.search(r'width="([\d.]+)pt"', svg)[1])
    head = f'<svg role="img" aria-label="{name}" style="min-width:{smallest:.0f}pt" '
    for light, dark in figures.IN_THE_DARK.items():
        svg = svg.replace(light, f"light-dark({light},{dark})")
    svg = svg.replace(figures.INK, "currentColor").replace("<svg ", head, 1)
    return re.sub(r"(<svg[^>]*>)", rf"\1<title>{name}</title>", svg, count=1)


def _name_of_figure(parts: dict[str, str]) -> str:
    """Return a figure's name from its title and axis labels, which are escaped already."""
    against = " against ".join(parts[axis] for axis in ("y", "x") if parts.get(axis))
    return ": ".join(filter(None, [parts.get("title"), against])).replace('"', "&quot;") or "figure"


def slim(svg: str) -> tuple[str, dict[str, str]]:
    """Return a figure of a page in less than half the bytes, and the styles that its elements have, by their classes.

    Groups that say nothing go, lines are told by their steps, and styles become classes, each named by what it says, so
    that all figures of a page share one sheet.
    """
    root = ElementTree.fromstring(svg)
    styles: dict[str, str] = {}
    for element in root.iter():
        _shorten(element)
        if element is not root and "style" in element.attrib:
            style = re.sub(r"\s*([:;,])\s*", r"\1", element.attrib.pop("style"))
            name = f"s{hashlib.sha256(style.encode()).hexdigest()[:6]}"
            element.set("class", name)
            styles[name] = style
    _join_ticks(root)
    _unclip_lines(root)
    for element in root.iter():
        element[:] = [child for child in element if not _draws_nothing(child, styles)]
    _unwrap(root)
    root.attrib.pop("version", None)
    text = ElementTree.tostring(root, encoding="unicode").replace(" />", "/>")
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)  # which HTML knows
    return re.sub(rf'(?<=[#"])([mp][0-9a-f]{{{DIGITS}}})[0-9a-f]+(?=[)"])', r"\1", text), styles


def sheet(styles: dict[str, str]) -> str:
    """Return the style sheet of figures that were made slim."""
    return FIRST + "".join(f".{name}{{{style}}}" for name, style in styles.items())


def _shorten(element: Element) -> None:
    """Cut an element's coordinates, a turn by nothing, and the blanks around what it holds."""
    for name in {"x", "y", "width", "height"} & set(element.attrib):
        element.set(name, re.sub(r"\d+\.\d+", lambda digits: f"{round(float(digits[0]), 1):g}", element.get(name)))
    if "d" in element.attrib:
        element.set("d", by_steps(element.get("d")))
    if LINK in element.attrib:
        element.set("href", element.attrib.pop(LINK))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    if element.tag not in (f"{SPACE}text", f"{SPACE}tspan"):
        element.text = (element.text or "").strip() or None
        for child in element:
            child.tail = None


def _join_ticks(root: Element) -> None:
    """Draw all ticks of one style, which matplotlib draws one by one, as one path in the place of the first."""
    marks = (mark for mark in root.iter(PATH) if "id" in mark.attrib and mark.get("d").startswith(AT_ITS_PLACE))
    ticks = {f"#{mark.get('id')}": mark for mark in marks if LINE.fullmatch(mark.get("d"))}
    joined: dict[str | None, Element] = {}
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == USE and child.get("href") in ticks:
                mark = ticks[child.get("href")]
                step = f"M{child.get('x')} {child.get('y')}l{mark.get('d').removeprefix(AT_ITS_PLACE)}"
                first = joined.setdefault(mark.get("class"), child)
                if first is child:
                    child.tag, child.attrib = PATH, {"d": step, "class": mark.get("class", "")}
                else:
                    first.set("d", first.get("d") + step)
                    parent.remove(child)
            elif child.tag == PATH and f"#{child.get('id')}" in ticks:
                parent.remove(child)


def _unclip_lines(root: Element) -> None:
    """Take the clip from straight lines that do not leave it, as those of a grid."""
    clips = {f"url(#{clip.get('id')})": clip[0] for clip in root.iter() if clip.tag.lower() == f"{SPACE}clippath"}
    for path in root.iter(PATH):
        line, clip = LINE.fullmatch(path.get("d")), clips.get(path.get("clip-path"))
        if line and clip is not None:
            x, y, right, down = map(float, line.groups())
            left, top, width, height = (float(clip.get(name)) for name in ("x", "y", "width", "height"))
            along = [(x, left, width), (x + right, left, width), (y, top, height), (y + down, top, height)]
            if all(-NEAR <= place - start <= size + NEAR for place, start, size in along):
                del path.attrib["clip-path"]


def _draws_nothing(element: Element, styles: dict[str, str]) -> bool:
    """Whether an element is matplotlib's own style sheet, which `sheet` replaces, or a transparent ground."""
    unseen = styles.get(element.get("class")) == "fill:none" and "id" not in element.attrib
    empty = element.tag == f"{SPACE}defs" and not len(element)
    return element.tag == f"{SPACE}style" or unseen or empty


def _unwrap(element: Element) -> None:
    """Put what lies in groups without any attribute in their place."""
    for child in element:
        _unwrap(child)
    bare = [child.tag == f"{SPACE}g" and not child.attrib for child in element]
    element[:] = [inner for child, group in zip(element, bare, strict=True) for inner in (child if group else [child])]


def by_steps(path: str) -> str:
    """Return a path of absolute moves, lines and curves as steps from point to point; one told otherwise stays.

    Coordinates are kept to a tenth of a point, those of small marks to a hundredth. Steps lead from rounded point to
    rounded point, so that no error adds up.
    """
    if set(re.findall("[a-zA-Z]", path)) - set("MLCQz"):
        return path
    numbers = [abs(float(number)) for number in re.findall(r"[-\d.]+", path)]
    per_point = 100 if max(numbers, default=0) < MARK else 10
    told, at, start, before = "", (0, 0), (0, 0), ""
    for command, text in re.findall(r"([MLCQz])([^MLCQz]*)", path):
        places = [round(float(number) * per_point) for number in text.split()]
        points = list(zip(places[::2], places[1::2], strict=True))
        said = command if command == "M" else command.lower()
        steps = points if command == "M" else [(x - at[0], y - at[1]) for x, y in points]
        told += (" " if said == before else said) + _written(steps, per_point)
        at, before = points[-1] if points else start, said
        start = at if command == "M" else start
    return told.replace(" -", "-")


def _written(steps: list[tuple[int, int]], per_point: int) -> str:
    numbers = (f"{number / per_point:.2f}".rstrip("0").rstrip(".") for step in steps for number in step)
    return " ".join(re.sub(r"^(-?)0\.", r"\1.", number) for number in numbers)
