"""Architectures drawn side by side, like Figure 3 of the PruNet paper, from their JSON alone.

One column per network, one row per choice. A number such as `hidden` becomes the box's width,
relative to the largest that the choice offers; a larger `kernel_size` a darker shade; `se` a thick
border; `null`, a skipped layer, a dot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import digits
from typing import Any
from xml.etree import ElementTree

from search_spaces.base import Architecture, Choice, option_of

LABEL_WIDTH, COLUMN_WIDTH, ROW_HEIGHT, BOX_HEIGHT, STAGE_GAP, HEADER = 118, 128, 25, 19, 9, 46
WIDEST, NARROWEST = 112.0, 22.0
# From the smallest kernel's shade to the largest one's, one pair for each stage.
SHADES = (
    ("#d9dee2", "#a3adb5"),
    ("#cfe3f1", "#76aed3"),
    ("#d5ecdc", "#7dbf95"),
    ("#fbe3c8", "#eaa85c"),
    ("#f6d5d8", "#dc8089"),
    ("#e2d8ee", "#a98ccb"),
)
INK = "#25313b"


@dataclass(frozen=True)
class Column:
    """A network to draw: two lines of heading and its architecture."""

    title: str
    subtitle: str
    architecture: Architecture


def draw(columns: Sequence[Column], choices: Sequence[Choice]) -> str:
    """Return an SVG of the networks; rows are the space's choices, stages set apart.

    A stage is what comes before the last underscore of a choice's name, or before its number, or a
    list that has it.
    """
    stages = list(dict.fromkeys(_stage(choice) for choice in choices))
    tops = [
        HEADER + ROW_HEIGHT * row + STAGE_GAP * stages.index(_stage(choice))
        for row, choice in enumerate(choices)
    ]
    width = LABEL_WIDTH + COLUMN_WIDTH * len(columns)
    height = tops[-1] + ROW_HEIGHT + 2
    svg = _element(None, "svg", viewBox=f"0 0 {width} {height}", width=width, height=height)
    for choice, top in zip(choices, tops, strict=True):
        _text(svg, choice.name, 0, top + BOX_HEIGHT / 2, "label", anchor="start")
    for position, column in enumerate(columns):
        middle = LABEL_WIDTH + COLUMN_WIDTH * (position + 0.5)
        _text(svg, column.title, middle, 10, "title")
        _text(svg, column.subtitle, middle, 27, "subtitle")
        for choice, top in zip(choices, tops, strict=True):
            shades = SHADES[stages.index(_stage(choice)) % len(SHADES)]
            _box(svg, choice, option_of(column.architecture, choice.name), middle, top, shades)
    return ElementTree.tostring(svg, encoding="unicode")


def _box(
    svg: ElementTree.Element,
    choice: Choice,
    option: Any,
    middle: float,
    top: float,
    shades: tuple[str, str],
) -> None:
    if option is None:
        _element(svg, "circle", cx=middle, cy=top + BOX_HEIGHT / 2, r=1.6, fill="#b9c2c9")
        return
    fields = _fields(option)
    number = next((key for key in fields if key not in ("kernel_size", "se")), None)
    width = WIDEST if number is None else max(NARROWEST, WIDEST * _share(choice, fields, number))
    shade = _blend(*shades, _rank(choice, fields.get("kernel_size")))
    box = _element(
        svg,
        "rect",
        x=round(middle - width / 2, 1),
        y=top,
        width=round(width, 1),
        height=BOX_HEIGHT,
        rx=3,
        fill=shade,
        stroke=INK if fields.get("se") else shade,
    )
    box.set("stroke-width", "2.2" if fields.get("se") else "1")
    _element(box, "title").text = ", ".join(f"{key} {value}" for key, value in fields.items())
    shown = f"{fields[number]}" if number else f"{fields.get('kernel_size', '')}"
    _text(svg, shown if number else f"{shown}×{shown}", middle, top + BOX_HEIGHT / 2, "value")


def _stage(choice: Choice) -> str:
    name = choice.name.partition(".")[0]
    return name if name != choice.name else name.rpartition("_")[0] or name.rstrip(digits) or name


def _fields(option: Any) -> dict[str, Any]:
    return option if isinstance(option, dict) else {"option": option}


def _share(choice: Choice, fields: dict[str, Any], key: str) -> float:
    """Return a field's value relative to the largest that the choice offers, in [0, 1]."""
    if not isinstance(fields[key], int | float):
        return 1.0
    offered = [_fields(option)[key] for option in choice.options if option is not None]
    return float(fields[key] / max(offered))


def _rank(choice: Choice, kernel_size: Any) -> float:
    """Return 0 for the smallest kernel that the choice offers, up to 1 for the largest."""
    offered = {
        _fields(option).get("kernel_size") for option in choice.options if option is not None
    }
    sizes = sorted(size for size in offered if size is not None)
    return sizes.index(kernel_size) / (len(sizes) - 1) if len(sizes) > 1 else 0.0


def _blend(light: str, dark: str, share: float) -> str:
    pairs = zip(bytes.fromhex(light[1:]), bytes.fromhex(dark[1:]), strict=True)
    return "#" + bytes(round(a + share * (b - a)) for a, b in pairs).hex()


def _text(
    svg: ElementTree.Element, text: str, x: float, y: float, kind: str, anchor: str = "middle"
) -> None:
    element = _element(svg, "text", x=x, y=y, fill=INK)
    element.attrib |= {"class": kind, "text-anchor": anchor, "dominant-baseline": "central"}
    element.text = text


def _element(
    parent: ElementTree.Element | None, tag: str, **attributes: Any
) -> ElementTree.Element:
    texts = {key: str(value) for key, value in attributes.items()}
    if parent is None:
        return ElementTree.Element(tag, texts)
    return ElementTree.SubElement(parent, tag, texts)
