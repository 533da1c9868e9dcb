"""The page shows what the tables hold, stands alone, and trusts no string."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from plotly.offline import get_plotlyjs

from orchestrator import Study, figure_parts, figures, load
from orchestrator.commands.fronts import print_front
from orchestrator.compare import front_json
from orchestrator.drawings import NARROWEST, WIDEST, Column, draw
from orchestrator.report import (
    corrections,
    graphs,
    latency_errors,
    networks,
    rank_correlations,
    render,
    tiles,
)
from search_spaces.base import Choice
from tests.orchestrator.fabricated import ALPHAS, CORRECTIONS, fabricate

HEADINGS = [
    "Pareto front",
    "Networks",
    "Model selection",
    "Architectures",
    "Search progress",
    "Layer skipping",
    "Search loss against latency",
    "Predicted and measured latency",
    "Negative flips on the front",
    "Hypervolume against compute",
    "Rank correlations",
    "Configuration",
]
EVIL = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return load(str(fabricate(tmp_path_factory.mktemp("study"))))


@pytest.fixture(scope="module")
def page(study: Study) -> str:
    return render(study)


def headings(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


def changed(study: Study, **changes: Any) -> Study:
    """Return the study with columns of every candidate changed, or dropped where None."""
    return dataclasses.replace(study, records=[record | changes for record in study.records])


def test_every_section_is_there(page: str) -> None:
    assert headings(page) == HEADINGS


def test_the_page_stands_alone(page: str) -> None:
    own = page.split("</script>", 1)[1]  # after plotly.js, which holds addresses that it never asks
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", own)
    assert page.count(get_plotlyjs()) == 1
    assert page.count('"showSendToCloud": false') == own.count("Plotly.newPlot(") == 7
    assert "src=" not in own


def test_strings_are_escaped_wherever_they_appear(study: Study) -> None:
    records = [
        record | {"params": {**record["params"], EVIL: EVIL}, "nfr_reference": EVIL}
        for record in study.records
    ]
    names = {record["candidate"]: f"{EVIL}{record['candidate']}" for record in records}
    records = [
        record | {"candidate": names[record["candidate"]], "preset": record["preset"] and EVIL}
        for record in records
    ]
    config = {**study.config, "study": EVIL, "reference": EVIL}
    evil = dataclasses.replace(study, records=records, config=config, damaged=[EVIL])
    assert "<script>alert" not in render(evil)


def test_a_study_that_has_just_begun_renders(study: Study) -> None:
    tables = {name: table.slice(0, 0) for name, table in study.tables.items()}
    young = dataclasses.replace(study, records=[], tables=tables)
    page = render(young)
    assert "No network is finished yet" in page
    assert headings(page) == ["Pareto front", "Configuration"]


def test_sections_need_their_columns(study: Study) -> None:
    bare = changed(
        study,
        params={"seed": 0},
        search_loss=None,
        latency_ms=None,
        latency_measured_ms=None,
        nfr=None,
        test_accuracy=None,
        cost_name="macs",
    )
    bare = dataclasses.replace(bare, config={**study.config, "cost": "macs"})
    bare = dataclasses.replace(
        bare, tables={**study.tables, "predictions": study.tables["predictions"].slice(0, 0)}
    )
    assert headings(render(bare)) == [
        "Pareto front",
        "Networks",
        "Architectures",
        "Search progress",
        "Hypervolume against compute",
        "Configuration",
    ]


def test_a_page_of_a_sample_says_so(study: Study, page: str) -> None:
    sample = dataclasses.replace(study, left_out={"searched": 999_000, "finished": 1234})
    shown = render(sample)
    assert headings(shown) == ["A sample", *HEADINGS]
    assert "1,000,234 more are in the results" in shown
    assert {what: value for value, what in tiles(sample)}["networks searched"] == "1000262"
    assert "A sample" not in headings(page)


def test_damaged_files_are_shown(study: Study) -> None:
    page = render(dataclasses.replace(study, damaged=["results/candidates/c1.parquet: damaged"]))
    assert "results/candidates/c1.parquet: damaged" in page


def test_networks_are_set_against_the_hand_made_one(study: Study) -> None:
    rows = networks(study)
    (baseline,) = [row for row in rows if row.record["preset"]]
    assert (baseline.speed_up, baseline.gain) == (None, None)
    for row in rows:
        if row is not baseline:
            ours, hand_made = row.record, baseline.record
            ratio = hand_made["latency_measured_ms"] / ours["latency_measured_ms"]
            assert row.speed_up == pytest.approx(ratio)
            assert row.gain == ours["val_accuracy"] - hand_made["val_accuracy"]
    unmeasured = networks(changed(study, latency_measured_ms=None))
    fastest = unmeasured[0]
    assert fastest.speed_up == pytest.approx(0.093 / fastest.record["latency_ms"])


def test_table_5_marks_the_lowest_loss_of_each_alpha(study: Study) -> None:
    table = corrections(study)
    assert table is not None
    titles, rows = table
    assert titles[0] == "φ, λ = 1, 1"
    assert len(titles) == len(CORRECTIONS)
    assert [title for title, _ in rows] == [f"α = {alpha:g}" for alpha in sorted(ALPHAS)[::-1]]
    for _, cells in rows:
        known = [cell for cell in cells if cell is not None]
        assert [cell.best for cell in known] == [
            cell.loss == min(other.loss for other in known) for cell in known
        ]
        assert all(cell.layers is not None and cell.layers >= 0 for cell in known)


def test_rank_correlations_are_spearmans(study: Study) -> None:
    shown = {what: (rho, count) for what, rho, count in rank_correlations(study)}
    rho, count = shown["α and predicted latency of all searched"]
    assert count == len(ALPHAS) * len(CORRECTIONS)
    assert -1 <= rho < -0.8
    constant = changed(study, search_loss=1.0)
    assert "search loss and final accuracy" not in {row[0] for row in rank_correlations(constant)}


def test_latency_errors_are_relative_to_the_measurement(study: Study) -> None:
    near = changed(study, latency_ms=1.05, latency_measured_ms=1.0)
    assert latency_errors(near) == pytest.approx({"mean": 0.05, "within_10_percent": 1.0})
    far = changed(study, latency_ms=0.8, latency_measured_ms=1.0)
    assert latency_errors(far) == pytest.approx({"mean": 0.2, "within_10_percent": 0.0})
    assert latency_errors(changed(study, latency_measured_ms=None)) is None


def test_the_head_counts_what_there_is(study: Study) -> None:
    shown = {what: value for value, what in tiles(study)}
    assert shown["networks searched"] == str(len(ALPHAS) * len(CORRECTIONS))
    assert shown["on the front"] == str(len(study.front()))


def test_compute_is_counted_once_and_volume_never_falls(study: Study) -> None:
    figure = figures.hypervolume_over_compute(study)
    assert figure is not None
    (curve,) = figure.data
    total = sum(record["wall_s"] for record in study.records if record["preset"] is None)
    assert curve.x[-1] == pytest.approx(total / 60)
    assert list(curve.y) == sorted(curve.y)
    assert curve.y[0] == 0 < curve.y[-1]


def test_colours_follow_the_parameter_that_varies(study: Study) -> None:
    labels = [label for label, _, _ in figure_parts.groups(study, study.records)]
    assert labels == [f"α = {alpha:g}" for alpha in ALPHAS]
    params = [{"seed": seed, "budget": 100 * seed} for seed in range(len(study.records))]
    records = [r | {"params": p} for r, p in zip(study.records, params, strict=True)]
    assert figure_parts.colour_key(records) == "budget"
    assert figure_parts.colour_key([]) is None
    params = [{"seed": 0, "penalty": "none" if n % 2 else "<clipped>"} for n in range(len(params))]
    records = [r | {"params": p} for r, p in zip(study.records, params, strict=True)]
    named = dataclasses.replace(study, records=records)
    labels = [label for label, _, _ in figure_parts.groups(named, records)]
    assert labels == ["penalty = &lt;clipped&gt;", "penalty = none"]


def test_errors_stand_over_both_latencies_where_batches_were_measured(
    study: Study,
) -> None:
    assert figures.accuracy_over_latency(study) is None
    records = [r | {"latency_batch128_ms": 128.0 * r["macs"]} for r in study.records]
    both = dataclasses.replace(study, records=records)
    figure = figures.accuracy_over_latency(both)
    assert figure is not None
    found = [record for record in both.finished() if record["preset"] is None]
    for panel, key in (("x", "latency_measured_ms"), ("x2", "latency_batch128_ms")):
        traces = [trace for trace in figure.data if trace.xaxis == panel]
        shown = {pair for trace in traces for pair in zip(trace.x, trace.y, strict=True)}
        assert shown == {(r[key], 100 * (1 - r["val_accuracy"])) for r in found}
    assert [title.text for title in figure.layout.annotations] == ["onnxruntime on Test CPU"]
    assert "Accuracy against latency" in headings(render(both))


def test_latencies_of_two_devices_stand_apart(study: Study) -> None:
    measured = [r | {"latency_batch128_ms": 1.0} for r in study.records]
    for record in measured:
        if record["params"].get("alpha", 0) > 0.7:
            record |= {"latency_backend": "torch_cuda", "latency_device": "<GPU>"}
    both = dataclasses.replace(study, records=measured)
    figure = figures.accuracy_over_latency(both)
    assert figure is not None
    titles = [title.text for title in figure.layout.annotations]
    assert titles == ["onnxruntime on Test CPU", "torch_cuda on &lt;GPU&gt;"]
    found = [record for record in both.finished() if record["preset"] is None]
    for panel, backend in (("x", "onnxruntime"), ("x3", "torch_cuda")):
        shown = [x for trace in figure.data if trace.xaxis == panel for x in trace.x]
        own = [r["latency_measured_ms"] for r in found if r["latency_backend"] == backend]
        assert sorted(shown) == sorted(own)
        assert own


CHOICES = (
    Choice("stage1_layer0", ({"kernel_size": 3}, {"kernel_size": 5})),
    Choice(
        "stage2_layer0",
        (
            {"kernel_size": 3, "se": True, "hidden": 100},
            {"kernel_size": 3, "se": False, "hidden": 50},
            {"kernel_size": 5, "se": False, "hidden": 25},
            None,
        ),
    ),
)


def boxes(architecture: dict[str, Any]) -> list[ElementTree.Element]:
    svg = ElementTree.fromstring(draw([Column("n", "s", architecture)], CHOICES))
    return [element for element in svg if element.tag in ("rect", "circle")]


def test_boxes_speak_width_kernel_and_se(tmp_path: Path) -> None:
    _, wide = boxes({"stage1_layer0": {"kernel_size": 3}, "stage2_layer0": CHOICES[1].options[0]})
    _, half = boxes({"stage1_layer0": {"kernel_size": 3}, "stage2_layer0": CHOICES[1].options[1]})
    _, dark = boxes({"stage1_layer0": {"kernel_size": 5}, "stage2_layer0": CHOICES[1].options[2]})
    assert float(wide.attrib["width"]) == WIDEST
    assert float(half.attrib["width"]) == WIDEST / 2
    assert float(dark.attrib["width"]) == max(WIDEST / 4, NARROWEST)
    assert float(wide.attrib["stroke-width"]) > float(half.attrib["stroke-width"])
    assert wide.attrib["fill"] == half.attrib["fill"] != dark.attrib["fill"]


def test_skipped_layers_and_plain_options_can_be_drawn() -> None:
    conv, skipped = boxes({"stage1_layer0": {"kernel_size": 5}, "stage2_layer0": None})
    assert (conv.tag, skipped.tag) == ("rect", "circle")
    choices = (Choice("depth", (2, 3, 4)), Choice("norm", ("batch", "group")))
    svg = ElementTree.fromstring(draw([Column("<n>", "s", {"depth": 2, "norm": "group"})], choices))
    widths = [float(element.attrib["width"]) for element in svg if element.tag == "rect"]
    assert widths == [WIDEST / 2, WIDEST]


def test_entries_of_lists_are_drawn_entry_by_entry() -> None:
    choices = (Choice("e.0", (3, 6)), Choice("e.1", (3, 6)), Choice("d.0", (1, 2)))
    svg = ElementTree.fromstring(draw([Column("n", "s", {"e": [3, None], "d": [1]})], choices))
    widths = [float(element.attrib["width"]) for element in svg if element.tag == "rect"]
    assert widths == [WIDEST / 2, WIDEST / 2]
    assert [element.tag for element in svg].count("circle") == 1  # inactive


def test_all_tested_networks_are_shown_on_validation_and_on_test(study: Study) -> None:
    front_only = changed(study)
    for record in front_only.records:
        record["test_accuracy"] = record["val_accuracy"] - 0.02 if record["on_front"] else None
    assert figures.model_selection(front_only) is None  # the front's own figure shows it all
    figure = figures.model_selection(changed(study, test_accuracy=0.75))
    assert figure is not None
    traces = {trace.name: trace for trace in figure.data if trace.x != (None,)}
    found = [record for record in study.finished() if record["preset"] is None]
    assert set(traces) == {"front", "validation", "test", "gpunet1"}
    assert sorted(traces["validation"].x) == sorted(record["cost"] for record in found)
    assert len(traces["test"].x) == len(study.finished())
    assert set(traces["test"].y) == {25.0}
    assert list(traces["front"].x) == [record["cost"] for record in study.front()]


def test_a_cost_of_the_study_s_own_is_shown_wherever_costs_are(
    study: Study, page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    machines = changed(study, cost_name="distributed_4", cost=37.0, val_mean_iou=0.4321)
    machines = dataclasses.replace(machines, config={**study.config, "cost": "distributed_4"})
    shown = render(machines)
    assert "<th>cycles on 4 machines</th>" in shown
    assert shown.count("<td>37</td>") == len(machines.finished())
    assert shown.count("<td>43.21 %</td>") == len(machines.finished())
    assert "from end to end in cycles on 4 machines" in [what for _, what in tiles(machines)]
    assert "cycles on 4 machines 37" in figure_parts.hover(machines.records[0])
    print_front(front_json(machines)["candidates"])
    title, first, *_ = capsys.readouterr().out.splitlines()
    assert "val mean iou" in title
    assert title.split()[-2:] == ["distributed", "4"]
    assert first.split()[-1] == "37"
    print_front(front_json(study)["candidates"])
    assert "iou" not in capsys.readouterr().out
    assert "cycles" not in page
    assert "mean IoU" not in page


def test_a_network_that_no_likely_edges_leave_is_marked(study: Study) -> None:
    fallback = changed(study, most_probable_path=1.0)
    assert all(
        row.point.endswith("(most probable path)") == (row.record["preset"] is None)
        for row in networks(fallback)
    )


@pytest.mark.parametrize(
    ("cost", "title"),
    [
        ("latency_ms", "latency (ms)"),
        ("network_latency_ms", "network latency (ms)"),
        ("macs", "MACs"),
        ("distributed_1", "cycles on 1 machine"),
        ("distributed_4", "cycles on 4 machines"),
        ("weight_bytes", "weight bytes"),
    ],
)
def test_costs_are_written_as_people_do(cost: str, title: str) -> None:
    assert figure_parts.axis_title(cost) == title


def test_architectures_that_are_graphs_are_drawn_as_graphs(study: Study) -> None:
    assert graphs(study) == {}
    config = {**study.config, "space": {"name": "resnet_fabric", "depth": 8}}
    records = [{**r, "architecture": {"skip0_0": True}} for r in study.records]
    fabric = dataclasses.replace(study, config=config, records=records)
    shown = graphs(fabric)
    assert set(shown) == {r["candidate"] for r in fabric.records if r["on_front"] or r["preset"]}
    page = render(fabric)
    assert all(svg in page for svg in shown.values())
    assert headings(page).count("Architectures") == 1
