"""A schedule as a Gantt chart: a row for each machine, a column for each cycle.

Colours tell the shape of what a module puts out, and so the group or scale of a fabric that it
belongs to. Modules that multiply nothing, such as sums, are pale.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TypeAlias

import matplotlib.figure
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from cost_models.distributed import Placement, Schedule
from cost_models.macs import macs_of
from search_spaces.base import Layer, Shape

Color: TypeAlias = tuple[float, float, float]  # red, green, blue: 0 to 1

SCALE = LinearSegmentedColormap.from_list(
    "shapes", ["#f0a04b", "#d9576b", "#8e4c9e", "#3b5ba5", "#0f8b8d"]
)
INK, PALE = "#25313b", 0.35
LUMINANCE, LIGHT = (0.299, 0.587, 0.114), 0.6  # of red, green and blue; of what needs dark letters
MOST_LABELLED = 120  # cycles: more columns than that are too narrow for names
LABELLED_INCHES, BARE_INCHES = (0.19, 1.3), (0.06, 0.5)  # of a column and a row


def draw(schedule: Schedule, layers: Sequence[Layer], title: str) -> matplotlib.figure.Figure:
    """Return the chart of a network's schedule; its modules are named where there is room.

    Args:
        schedule: of the network, and of nothing else.
        layers: of the network.
        title: what the chart's heading names.
    """
    shapes = {layer.module: layer.out_shape for layer in layers}  # its last layer's
    colors = _colors(list(dict.fromkeys(shapes.values())))
    labelled = schedule.cycles <= MOST_LABELLED
    column, row = LABELLED_INCHES if labelled else BARE_INCHES
    size = (max(6.4, 1.8 + column * schedule.cycles), 1.2 + row * schedule.machines)
    figure = matplotlib.figure.Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    multiplying = {layer.module for layer in layers if macs_of(layer)}
    for placement in schedule.placements:
        full = colors[shapes[placement.module]]
        color = full if placement.module in multiplying else _pale(full)
        _bar(axes, placement, color, labelled)
    _frame(axes, schedule)
    figure.suptitle(f"{title}: {_figures(schedule)}", x=0.01, ha="left", size=10, color=INK)
    patches = [Patch(color=color, label=_text(shape)) for shape, color in colors.items()]
    figure.legend(handles=patches, title="output", loc="outside right center", frameon=False)
    return figure


def _colors(shapes: Sequence[Shape]) -> dict[Shape, Color]:
    last = max(1, len(shapes) - 1)
    return {shape: SCALE(place / last)[:3] for place, shape in enumerate(shapes)}


def _pale(color: Color) -> Color:
    red, green, blue = (1 - PALE * (1 - part) for part in color)
    return red, green, blue


def _bar(axes: Axes, placement: Placement, color: Color, labelled: bool) -> None:
    middle = placement.cycle + 1  # people count from 1
    axes.bar(middle, 0.9, 1, placement.machine - 0.45, color=color, edgecolor="white")
    if labelled:
        text = axes.text(middle, placement.machine, placement.module, ha="center", va="center")
        light = sum(map(operator.mul, LUMINANCE, color)) > LIGHT
        text.set(rotation=90, size=6.5, color=INK if light else "white")


def _frame(axes: Axes, schedule: Schedule) -> None:
    axes.set(xlabel="cycle", xlim=(0.5, max(1, schedule.cycles) + 0.5))
    axes.set(
        ylabel="machine", ylim=(schedule.machines - 0.5, -0.5), yticks=range(schedule.machines)
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right", "left"]].set_visible(False)


def _figures(schedule: Schedule) -> str:
    modules, places = len(schedule.placements), schedule.machines * schedule.cycles
    busy = f"{100 * modules / max(1, places):.0f} % busy"
    machines = "1 machine" if schedule.machines == 1 else f"{schedule.machines} machines"
    return f"{modules} modules, {machines}, {schedule.cycles} cycles, {busy}"


def _text(shape: Shape) -> str:
    return "×".join(map(str, shape))
