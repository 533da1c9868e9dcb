"""A network drawn as a part of its fabric, like Figure 6 of the Budgeted Super Networks paper.

Circles are nodes, from the stem to the one that the head reads. Nodes whose maps have one shape
share a row and a colour, the largest maps on top; a row runs from right to left where that makes
the edges from earlier rows shorter. Edges that the network has carry the colour of their target;
edges that it lacks are pale. The more convolutions, the thicker an edge; an identity is dashed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypeAlias
from xml.etree import ElementTree

from search_spaces.base import Architecture, Shape
from search_spaces.fabric import Edge, Fabric, Node

Point: TypeAlias = tuple[float, float]  # x, y
Rows: TypeAlias = Mapping[Shape, Sequence[Node]]

STEP, ROW_HEIGHT, RADIUS, MARGIN, LABELS, HEADER = 58, 70, 7, 24, 84, 66
BULGE = 0.18  # how far parallel edges bend apart, relative to their length
COLORS = ("#3b5ba5", "#0f8b8d", "#7a9a3a", "#d98a2b", "#d9576b", "#8e4c9e")
INK, MUTED, PALE = "#25313b", "#6c7a86", "#e1e7eb"


def draw_fabric(fabric: Fabric, architecture: Architecture, title: str, subtitle: str) -> str:
    """Return an SVG of the edges that lie on a path, amid all edges of the fabric."""
    rows = _rows(fabric)
    points = _points(fabric, rows)
    kept = fabric.canonical(architecture)
    width = max(LABELS + 160, *(x + MARGIN for x, _ in points.values()))
    height = max(y for _, y in points.values()) + MARGIN
    svg = ElementTree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg"})
    svg.attrib |= _texts(viewBox=f"0 0 {width} {height}", width=width, height=height)
    svg.set("font-family", "Inter, Helvetica, Arial, sans-serif")
    _text(svg, title, (0, 12), 12.5, INK, weight="620")
    _text(svg, subtitle, (0, 29), 11.5, MUTED)
    for shape, nodes in rows.items():
        _text(svg, " × ".join(map(str, shape)), (0, points[nodes[0].name][1]), 11, MUTED)
    colors = dict(zip(rows, COLORS * len(rows), strict=False))
    _edges(svg, fabric, points, kept, {node.name: colors[node.shape] for node in fabric.nodes})
    _nodes(svg, fabric, points, kept, colors)
    return ElementTree.tostring(svg, encoding="unicode")


def _rows(fabric: Fabric) -> Rows:
    """Return the nodes by the shape of their maps, the largest maps first."""
    rows: dict[Shape, list[Node]] = {}
    for node in fabric.nodes:
        rows.setdefault(node.shape, []).append(node)
    return dict(sorted(rows.items(), key=lambda row: row[0][1:], reverse=True))


def _points(fabric: Fabric, rows: Rows) -> dict[str, Point]:
    """Return where every node is drawn."""
    last = max(map(len, rows.values())) - 1
    columns: dict[str, int] = {}
    for nodes in rows.values():
        backward = {node.name: last - place for place, node in enumerate(nodes)}
        forward = dict(zip(backward, reversed(backward.values()), strict=True))
        columns.update(min((forward, backward), key=partial(_reach, fabric, columns)))
    heights = {shape: HEADER + row * ROW_HEIGHT for row, shape in enumerate(rows)}
    return {
        node.name: (LABELS + STEP * columns[node.name], heights[node.shape])
        for node in fabric.nodes
    }


def _reach(fabric: Fabric, placed: Mapping[str, int], row: Mapping[str, int]) -> int:
    """Return how many columns the edges from placed nodes into a row pass."""
    return sum(
        abs(placed[edge.source] - row[edge.target])
        for edge in fabric.edges
        if edge.source in placed and edge.target in row
    )


def _edges(
    svg: ElementTree.Element,
    fabric: Fabric,
    points: Mapping[str, Point],
    kept: Architecture,
    colors: Mapping[str, str],
) -> None:
    """Draw all edges, those that are kept over the others."""
    joining: dict[tuple[str, str], list[Edge]] = {}
    for edge in fabric.edges:
        joining.setdefault((edge.source, edge.target), []).append(edge)
    for is_kept in (False, True):
        for edge in fabric.edges:
            if (edge.name in kept) == is_kept:
                parallel = joining[edge.source, edge.target]
                bend = BULGE * (2 * parallel.index(edge) - len(parallel) + 1)
                path = _curve(points[edge.source], points[edge.target], bend)
                _line(svg, edge, path, colors[edge.target] if is_kept else PALE)


def _line(svg: ElementTree.Element, edge: Edge, path: str, color: str) -> None:
    line = ElementTree.SubElement(svg, "path", {"d": path, "fill": "none", "stroke": color})
    convolutions = sum(layer.kind == "conv" for layer in edge.layers)
    line.set("stroke-width", f"{1.2 + 0.9 * convolutions:g}")
    if not edge.layers:
        line.set("stroke-dasharray", "4 3")
    ElementTree.SubElement(line, "title").text = edge.name


def _curve(start: Point, end: Point, bend: float) -> str:
    """Return a path that leaves the straight line by a share of its length."""
    across, down = end[0] - start[0], end[1] - start[1]
    middle = (start[0] + end[0]) / 2 - 2 * bend * down, (start[1] + end[1]) / 2 + 2 * bend * across
    (x0, y0), (x1, y1), (x2, y2) = start, middle, end
    return f"M{x0:g},{y0:g} Q{x1:.1f},{y1:.1f} {x2:g},{y2:g}"


def _nodes(
    svg: ElementTree.Element,
    fabric: Fabric,
    points: Mapping[str, Point],
    kept: Architecture,
    colors: Mapping[Shape, str],
) -> None:
    """Draw all nodes, and name the first and the last one."""
    ends = ({edge.source, edge.target} for edge in fabric.edges if edge.name in kept)
    used = set().union(*ends)
    for node in fabric.nodes:
        x, y = points[node.name]
        circle = ElementTree.SubElement(svg, "circle", _texts(cx=x, cy=y, r=RADIUS))
        circle.attrib |= {"fill": colors[node.shape] if node.name in used else PALE}
        circle.attrib |= {"stroke": "#ffffff", "stroke-width": "1.5"}
        ElementTree.SubElement(circle, "title").text = node.name
    for node, name in ((fabric.nodes[0], "in"), (fabric.nodes[-1], "out")):
        x, y = points[node.name]
        above = node.shape == fabric.nodes[0].shape  # the row on top
        _text(svg, name, (x, y - 15 if above else y + 15), 11, INK, anchor="middle")


def _text(
    svg: ElementTree.Element,
    text: str,
    point: Point,
    size: float,
    color: str,
    anchor: str = "start",
    weight: str = "400",
) -> None:
    element = ElementTree.SubElement(svg, "text", _texts(x=point[0], y=point[1]))
    element.attrib |= {"font-size": f"{size:g}", "fill": color, "font-weight": weight}
    element.attrib |= {"text-anchor": anchor, "dominant-baseline": "central"}
    element.text = text


def _texts(**attributes: float | str) -> dict[str, str]:
    return {name: str(value) for name, value in attributes.items()}
