"""`paretoray cost` and `paretoray size` say what the papers say, and refuse what is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cost_models import COST_MODELS
from orchestrator import cli
from search_spaces import SPACES
from tests.orchestrator import tiny

GPUNET1 = ("gpunet", "--set", "preset=gpunet1_supernet", "--arch", "gpunet1")


@pytest.fixture
def paretoray(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command in this process; return its code, and what it wrote."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["paretoray", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


# What a space, its options and an architecture cost, and where it is printed.
PRINTED = [
    # Veniat and Denoyer, supplement, Tables 5 to 9.
    ("resnet_fabric depth=110 resnet", {"distributed_1": 112, "distributed_2": 110}),
    ("resnet_fabric depth=20 resnet", {"distributed_1": 22, "distributed_4": 20}),
    (
        "resnet_fabric depth=110 full",
        {"distributed_1": 320, "distributed_2": 179, "distributed_4": 110},
    ),
    (
        "conv_fabric columns=8,scales=6,filters=128 full",
        {"distributed_1": 171, "distributed_2": 90, "distributed_4": 53},
    ),
    # Zhang et al., "Hello Edge", Tables 8 and 9: 5.4 M and 158.8 K operations.
    ("keyword_nets model=ds_cnn,size=s full", {"macs": 2_656_768, "hello_edge_ops": 5_385_548}),
    ("keyword_nets model=dnn,size=s full", {"macs": 79_200, "hello_edge_ops": 158_844}),
    # Kierat et al., Table 2; Wang et al., GPUNet.
    ("gpunet preset=gpunet1_supernet gpunet1", {"macs": 3_375_338_624, "num_params": 12_704_192}),
    # Clipped Lasso, Table I: 10.26 M at half the width; 28.19e4 parameters with 1x1 shortcuts.
    ("slimmable_resnet depth=20,width_mult=0.5 full", {"slimmable_flops": 10_262_848}),
    ("slimmable_resnet depth=20,shortcut=conv1x1 full", {"num_params_without_norm": 281_914}),
]


@pytest.mark.parametrize(("line", "expected"), PRINTED, ids=[line for line, _ in PRINTED])
def test_costs_are_those_that_papers_print(
    paretoray: Any, line: str, expected: dict[str, int]
) -> None:
    space, options, arch = line.split()
    settings = [part for option in options.split(",") for part in ("--set", option)]
    code, out, _ = paretoray("cost", space, *settings, "--arch", arch, "--json")
    assert code == 0
    found = json.loads(out)
    assert {name: found[name] for name in expected} == expected


def test_json_has_every_cost_the_options_and_the_architecture(paretoray: Any) -> None:
    code, out, _ = paretoray("cost", *GPUNET1, "--machines", "3", "--json")
    found = json.loads(out)
    names = {name for name in COST_MODELS if not name.startswith("distributed_")}
    more = {"space", "options", "architecture", "digest", "distributed_3"}
    more |= {"latency_ms", "network_latency_ms"}
    assert (code, set(found)) == (0, names | more)
    assert found["latency_ms"] is found["network_latency_ms"] is None
    assert found["options"]["preset"] == "gpunet1_supernet"
    assert found["options"]["num_classes"] == 1000
    again = json.dumps(found["architecture"])
    _, out, _ = paretoray("cost", *GPUNET1[:-1], again, "--json")
    assert json.loads(out)["digest"] == found["digest"]


def test_layers_add_up_to_the_network(paretoray: Any) -> None:
    _, out, _ = paretoray("cost", *GPUNET1, "--layers", "--json")
    found = json.loads(out)
    for name, model in COST_MODELS.items():
        if model.additive:
            assert sum(row[name] for row in found["layers"]) == found[name]


def test_a_table_gives_the_latency(paretoray: Any, tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    table = tiny.made_up_table(tiny.blocks())
    path.write_bytes(table.to_bytes())
    space = SPACES["gpunet"](SPACES["gpunet"].Config(preset="gpunet_8"))
    arguments = ("cost", "gpunet", "--arch", "min", "--table", str(path))
    _, out, _ = paretoray(*arguments, "--set", "preset=gpunet_8", "--json")
    expected = table.network_ms(space.blocks(space.presets["min"]))
    assert json.loads(out)["latency_ms"] == pytest.approx(expected)
    code, _, err = paretoray(*arguments, "--set", "preset=gpunet_28")
    assert code == 2
    assert "is missing; `paretoray measure SPACE --out TABLE` measures it" in err


def test_machines_delay_and_are_drawn(paretoray: Any, tmp_path: Path) -> None:
    fabric = ("cost", "resnet_fabric", "--arch", "full", "--machines", "1,2", "--json")
    chart = tmp_path / "chart.svg"
    _, out, _ = paretoray(*fabric, "--jitter-ms", "0")
    undelayed = json.loads(out)["network_latency_ms"]
    _, out, _ = paretoray(*fabric, "--jitter-ms", "1", "--gantt", str(chart))
    assert json.loads(out)["network_latency_ms"] > undelayed > 0
    assert "block2_2" in chart.read_text()
    code, _, err = paretoray(*fabric, "--gantt", "chart.doc")
    assert code == 2
    assert "--gantt chart.doc: ends in '.doc'; allowed: " in err


def test_people_see_units(paretoray: Any) -> None:
    _, out, _ = paretoray("cost", *GPUNET1)
    assert [line.split() for line in out.splitlines() if line.startswith("macs")] == [
        ["macs", "3375338624", "MAC"]
    ]


def test_size_is_exact(paretoray: Any) -> None:
    _, out, _ = paretoray("size", *GPUNET1[:3], "--json")
    exact = SPACES["gpunet"](SPACES["gpunet"].Config(preset="gpunet1_supernet")).size()
    assert json.loads(out) == {"size": str(exact)}
    _, out, _ = paretoray("size", "conv_fabric", "--set", "columns=1")
    assert out == "1 architectures\n"
    _, out, _ = paretoray("size", "conv_fabric", "--set", "columns=80")
    assert "e+" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("cost", "gpunett", "--arch", "min"),
            "SPACE: 'gpunett' is unknown; did you mean 'gpunet'",
        ),
        (("cost", "gpunet", "--arch", "mim"), "--arch: 'mim' is unknown; did you mean 'min'?"),
        (("cost", "gpunet", "--arch", "{"), "--arch: not JSON"),
        (("cost", "resnet_fabric", "--arch", "{}"), "--arch: {} is no network"),
        (("cost", *GPUNET1, "--jitter-ms", "inf"), "--jitter-ms: delay: jitter_ms is inf"),
        (("measure", "gpunet", "--out", "."), "--out .: not the name of a file"),
        (("size", "torch_module", "--set", "function=torch.nn:Identity"), "has no operations"),
        (("cost", "gpunet", "--arch", '{"a": 1}'), "--arch: architecture: unknown choice 'a'"),
        (("cost", *GPUNET1, "--machines", "0"), "--machines: '0'; allowed: numbers of at least 1"),
        (("cost", *GPUNET1, "--machines", "two"), "--machines: 'two'; allowed"),
        (("cost", *GPUNET1, "--table", "absent"), "--table: "),
        (("size", "gpunet", "--set", "presset=x"), "space.presset: unknown key; did you mean"),
        (("size", "resnet_fabric", "--set", "depth=21"), "depth: 21; allowed: 6 m + 2"),
        (("size", "conv_fabric", "--set", "columns=0"), "columns: 0; allowed"),
    ],
)
def test_bad_input_gets_one_line(paretoray: Any, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = paretoray(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
