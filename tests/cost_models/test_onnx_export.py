import copy

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from cost_models import onnx_export
from cost_models.onnx_export import checked_onnx, max_difference, open_session, to_onnx
from search_spaces.gpunet import Config, GPUNet
from search_spaces.keyword_nets import Config as KeywordConfig
from search_spaces.keyword_nets import KeywordNets
from search_spaces.torch_module import Config as ModuleConfig
from search_spaces.torch_module import TorchModule


def network() -> tuple[nn.Module, tuple[int, ...]]:
    """A network in training mode whose batch norms are not the identity."""
    space = GPUNet(Config(preset="gpunet_8"))
    torch.manual_seed(0)
    module = space.build(space.presets["max"]).train()
    for _ in range(3):
        module(torch.randn(16, *space.in_shape) + 1)
    return module, space.in_shape


def test_an_exported_network_computes_what_torch_computes() -> None:
    module, shape = network()
    model = checked_onnx(module, shape)
    assert module.training
    images_BCHW = torch.randn(5, *shape)
    session = open_session(model)
    ours = session.run(["output"], {"input": images_BCHW.numpy()})[0]
    with torch.inference_mode():
        theirs = module.eval()(images_BCHW).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_batch_norms_are_folded() -> None:
    module, shape = network()
    model = onnx.load_from_string(to_onnx(module, shape))
    onnx.checker.check_model(model)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


def test_a_network_that_differs_is_refused(monkeypatch) -> None:
    module, shape = network()
    other = network()[0]
    nn.init.zeros_(other.head.linear.weight)
    wrong = to_onnx(other, shape, batch_size=None)
    assert max_difference(wrong, module, shape) > 1e-4
    monkeypatch.setattr(onnx_export, "to_onnx", lambda *args, **kwargs: wrong)
    with pytest.raises(ValueError, match=r"onnxruntime and torch differ by .*; allowed: 0.0001"):
        checked_onnx(module, shape)


def scaled(scale: float) -> nn.Module:
    module = network()[0]
    with torch.no_grad():
        module.head.linear.weight *= scale
    return module


@pytest.mark.parametrize("largest", [0.5, 9.9])
def test_ordinary_outputs_must_agree_absolutely(monkeypatch, largest) -> None:
    """A difference of 2e-4 is refused, however small a share of the outputs it is."""
    module, shape = network()
    noise_BCHW = np.random.default_rng(0).standard_normal((2, *shape), dtype=np.float32)
    with torch.no_grad():
        head = module.eval().head.linear
        scale = largest / module(torch.from_numpy(noise_BCHW)).abs().max()
        head.weight *= scale
        head.bias *= scale
    assert checked_onnx(module, shape)
    other = copy.deepcopy(module)
    with torch.no_grad():
        other.head.linear.bias += 2e-4
    wrong = to_onnx(other, shape, batch_size=None)
    monkeypatch.setattr(onnx_export, "to_onnx", lambda *args, **kwargs: wrong)
    with pytest.raises(ValueError, match="differ by 2"):
        checked_onnx(module, shape)


REDS_SPACES = {
    "dnn": KeywordNets(KeywordConfig("dnn", "s")),
    "cnn": KeywordNets(KeywordConfig("cnn", "s")),
    "ds_cnn": KeywordNets(KeywordConfig("ds_cnn", "s")),
    "resnet18": TorchModule(
        ModuleConfig("torchvision.models:resnet18", in_shape=(3, 32, 32), channel_multiple=32)
    ),
}


@pytest.mark.parametrize("name", REDS_SPACES)
@pytest.mark.parametrize("preset", ["min", "full"])
def test_networks_of_reds_differ_by_less_than_1e_4(name, preset) -> None:
    space = REDS_SPACES[name]
    torch.manual_seed(0)
    module = space.build(space.presets[preset]).eval()
    images_BCHW = torch.randn(5, *space.in_shape)
    session = open_session(checked_onnx(module, space.in_shape))
    (ours,) = session.run(["output"], {"input": images_BCHW.numpy()})
    with torch.inference_mode():
        assert np.abs(ours - module(images_BCHW).numpy()).max() < 1e-4


def test_large_outputs_may_differ_by_their_rounding() -> None:
    shape = network()[1]
    module = scaled(1e5)
    session = open_session(checked_onnx(module, shape))
    images_BCHW = torch.randn(5, *shape)
    ours = session.run(["output"], {"input": images_BCHW.numpy()})[0]
    with torch.inference_mode():
        theirs = module.eval()(images_BCHW).numpy()
    assert np.abs(ours - theirs).max() > 1e-4  # what an absolute bound would refuse


def test_large_outputs_that_differ_are_refused(monkeypatch) -> None:
    shape = network()[1]
    wrong = to_onnx(scaled(1.001e5), shape, batch_size=None)
    monkeypatch.setattr(onnx_export, "to_onnx", lambda *args, **kwargs: wrong)
    with pytest.raises(ValueError, match="onnxruntime and torch differ by"):
        checked_onnx(scaled(1e5), shape)


def test_a_network_that_gives_nan_is_refused() -> None:
    module, shape = network()
    nn.init.constant_(module.head.linear.bias, float("nan"))
    with pytest.raises(ValueError, match="differ by nan"):
        checked_onnx(module, shape)
