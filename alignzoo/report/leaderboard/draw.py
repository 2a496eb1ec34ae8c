"""Sets the look of the leaderboard's plots: colours for both schemes, markers, labels beside what they name."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.report.html import svg_element

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's palette (2008), which colour-blind people tell apart; the two palest are darkened for white paper.
LIGHT = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#2e9bd6", "#c98500", "#6e7781")
#: The same hues, lighter, for a dark page.
DARK = ("#4ba3e3", "#f58a4b", "#2fc79a", "#e8a5cb", "#93d2f7", "#f0b840", "#a8b1bb")
MARKERS = "osD^vPX"
INK, FAINT = "#24292e", "#8b949f"  #: of text and axes; of what is in the background
FONT = 11  #: points
#: Where a name may stand, in points from its point: off the horizontal and the vertical line through it where possible.
SIDES = (
    ((6, 8), "left"),
    ((6, -8), "left"),
    ((-6, 8), "right"),
    ((-6, -8), "right"),
    ((9, 0), "left"),
    ((-9, 0), "right"),
    ((6, 20), "left"),
    ((6, -20), "left"),
)


class Palette:
    """A colour and a marker for each method, the same in all plots and in the table."""

    def __init__(self, methods: Iterable[str]) -> None:
        self.place = {method: place for place, method in enumerate(sorted(set(methods)))}

    def colour(self, method: str) -> str:
        """Return the colour for a white page."""
        return LIGHT[self.place[method] % len(LIGHT)]

    def variable(self, method: str) -> str:
        """Return the CSS variable that holds the colour of the page's scheme."""
        return f"--c{self.place[method] % len(LIGHT)}"

    def marker(self, method: str) -> str:
        """Return the marker; with more methods than colours, colour and marker together tell them apart."""
        place = self.place[method]
        return MARKERS[(place + place // len(LIGHT)) % len(MARKERS)]


def new_figure(width: float = 5.4, height: float = 3.5) -> tuple[Figure, Axes]:
    """Return an empty figure, in inches, and its axes: no frame, few lines, no pyplot and so no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=FONT - 1, color=FAINT)
    axes.grid(axis="y", color=FAINT, alpha=0.25, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.06, y=0.1)
    return figure, axes


def name_axes(axes: Axes, x: str, y: str) -> None:
    """Name both axes; the y axis at its top, to be read without turning the head."""
    axes.set_xlabel(x, color=INK, fontsize=FONT, parse_math=False)
    axes.set_title(y, color=INK, fontsize=FONT, loc="left", pad=9, parse_math=False)


def spans_a_decade(values: Sequence[float]) -> bool:
    """Tell whether ``values`` are all above zero and the largest is ten times the smallest: for a logarithmic axis."""
    return bool(values) and min(values) > 0 and max(values) >= 9.99 * min(values)  # 0.5 / 0.05 is not quite 10


def scale_x(axes: Axes, values: Sequence[float], at_values: bool) -> None:
    """Make the x axis logarithmic where that shows more; ticks at the values themselves if asked for."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

    if spans_a_decade(values):
        axes.set_xscale("log")
        low, high = math.log10(min(values)), math.log10(max(values))
        pad = 0.08 * (high - low)
        axes.set_xlim(10 ** (low - pad), 10 ** (high + pad))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high - low < 2 else (1,)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    if at_values and len(set(values)) <= 8:
        axes.xaxis.set_major_locator(FixedLocator(sorted(set(values))))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def scale_y(axes: Axes, form: str) -> None:
    """Write shares as percentages."""
    from matplotlib.ticker import PercentFormatter

    if form.endswith("%}"):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Name lines at their right ends, (x, y, text, colour), moved apart where they would overlap."""
    figure = axes.figure
    figure.canvas.draw()
    height = (FONT + 2) * figure.dpi / 72
    placed = -math.inf
    for x, y, text, colour in sorted(ends, key=lambda end: end[1]):
        at = axes.transData.transform((x, y))[1]
        placed = max(at, placed + height)
        shift = (placed - at) * 72 / figure.dpi
        _annotate(axes, text, (x, y), (7, shift), colour, ha="left")


def label_points(axes: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Name points, (x, y, text, colour), on the side where there is room; left out where there is none."""
    figure = axes.figure
    figure.canvas.draw()
    frame = figure.bbox
    taken = [_make_box(axes.transData.transform(point[:2]), 10) for point in points]
    for x, y, text, colour in points:
        for shift, ha in SIDES:
            written = _annotate(axes, text, (x, y), shift, colour, ha)
            box = written.get_window_extent()
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            written.remove()


def _make_box(middle: Any, size: float) -> Any:
    from matplotlib.transforms import Bbox

    return Bbox.from_bounds(middle[0] - size / 2, middle[1] - size / 2, size, size)


def _annotate(axes: Axes, text: str, at: tuple[float, float], shift: tuple[float, float], colour: str, ha: str) -> Any:
    return axes.annotate(
        text,
        at,
        xytext=shift,
        textcoords="offset points",
        color=colour,
        fontsize=FONT - 1,
        ha=ha,
        va="center",
        annotation_clip=False,
        parse_math=False,
    )


def save_png(figure: Figure, file: Path) -> None:
    """Write the figure on white."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, facecolor="white")


def make_svg(figure: Figure, name: str) -> str:
    """Return the figure as an SVG element whose colours are the page's, and whose text is text.

    ``name`` keeps its ids apart from those of other figures on the page.
    """
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        text = svg_element(figure, transparent=True)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    for place, colour in enumerate(LIGHT):
        text = text.replace(colour, f"var(--c{place})")
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1 role="img"', text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return text.replace(INK, "var(--ink)").replace(FAINT, "var(--faint)")
