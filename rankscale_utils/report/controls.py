"""Controls of a notebook: what they are set to is shown at once, and what cannot be shown is said in its place."""

from collections.abc import Callable, Mapping, Sequence
from html import escape

import ipywidgets as widgets
import traitlets

from rankscale_utils.errors import StudyError
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study
from rankscale_utils.study.study import Study

from . import tables

Options = Sequence[str] | Sequence[tuple[str, object]]
WIDE = widgets.Layout(width="auto")
ROW = widgets.Layout(flex_flow="row wrap")
AS_OUTPUT = '<div class="jp-RenderedHTMLCommon">{}</div>'  # JupyterLab's own look of tables and text
CODE = '<pre style="white-space: pre-wrap; margin: 0.5rem 0;">{}</pre>'


class Ticks(widgets.HBox):
    """Boxes to tick, every one of them at first; `value` holds the names of those that are not."""

    value = traitlets.Tuple()

    def __init__(self, name: str, names: Sequence[object]) -> None:
        """Show a box for each name."""
        self.boxes = {
            one: widgets.Checkbox(True, description=str(one), indent=False, layout=widgets.Layout(width="5.5rem"))
            for one in names
        }
        super().__init__([widgets.Label(name, layout=widgets.Layout(width="90px")), *self.boxes.values()], layout=ROW)
        for box in self.boxes.values():
            box.observe(self._read, "value")

    def _read(self, _: object) -> None:
        self.value = tuple(name for name, box in self.boxes.items() if not box.value)


def choice(name: str, options: Options, **how: object) -> widgets.Dropdown:
    """Return a choice of one of several."""
    return widgets.Dropdown(options=options, description=name, **how)


def choose_study(study: Study) -> widgets.Dropdown:
    """Return the choice of a study among those that have results, this one first."""
    folders = [folder for folder in sorted(study.folder.parent.glob("*")) if paths.source_mark(folder).exists()]
    others = [folder.name for folder in folders if folder.name != study.name and _opens(folder.name)]
    return choice("study", [(study.name, str(study.source)), *((name, name) for name in others)])


def _opens(name: str) -> bool:
    try:
        load_study(name)
    except StudyError:
        return False
    return True


def follow(chosen: widgets.Dropdown, section: Callable[..., widgets.Widget], *more: object) -> widgets.Widget:
    """Return a section about the chosen study, made anew when another one is chosen; more: what else it is given."""
    box = widgets.VBox()

    def make(_: object = None) -> None:
        try:
            box.children = [section(load_study(chosen.value), *more)]
        except StudyError as error:
            box.children = [widgets.HTML(AS_OUTPUT.format(tables.finding(str(error)).data))]

    chosen.observe(make, "value")
    make()
    return box


def controlled(controls: Mapping[str, widgets.Widget], show: Callable[..., str]) -> widgets.HTML:
    """Return the HTML that `show` makes of the controls' values, made anew whenever one of them moves."""
    shown = widgets.HTML(layout=WIDE)

    def update(_: object = None) -> None:
        try:
            shown.value = AS_OUTPUT.format(show(**{name: control.value for name, control in controls.items()}))
        except StudyError as error:
            shown.value = AS_OUTPUT.format(tables.finding(str(error)).data)

    for control in controls.values():
        control.observe(update, "value")
    update()
    return shown


def line_of_code(function: str, study: Study, *given: object, then: str = "", **named: object) -> str:
    """Return as HTML the line of Python that does the same; empty values, which are the defaults, are left out."""
    name = study.name if study.source.parent == paths.ROOT / "params" else str(study.source)
    words = [repr(name), *map(repr, given), *(f"{key}={value!r}" for key, value in named.items() if value)]
    return CODE.format(escape(f"rankscale.{function}({', '.join(words)}){then}"))
