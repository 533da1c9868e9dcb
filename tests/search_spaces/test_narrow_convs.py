"""Strided 1x1 convolutions of few channels can be trained, on any CPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from search_spaces.narrow_convs import NarrowConv2d, narrow_convs

TRAIN = """
import torch
from search_spaces.narrow_convs import narrow_convs

conv = narrow_convs(torch.nn.Conv2d(4, 8, 1, stride=2))
for _ in range(100):
    x_BCHW = torch.randn(32, 4, 8, 8).contiguous(memory_format=torch.channels_last)
    conv(x_BCHW).sum().backward()
"""


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("channels", [3, 8])
def test_it_computes_what_torch_does(channels, bias):
    torch.manual_seed(0)
    conv = narrow_convs(nn.Conv2d(channels, 5, 1, stride=(2, 3), bias=bias))
    assert type(conv) is NarrowConv2d
    reference = nn.Conv2d(channels, 5, 1, stride=(2, 3), bias=bias).double()
    reference.load_state_dict(conv.state_dict())
    x_BCHW = torch.randn(4, channels, 7, 8, requires_grad=True)
    x64_BCHW = x_BCHW.detach().double().requires_grad_()
    y_BCHW, y64_BCHW = conv(x_BCHW), reference(x64_BCHW)
    y_BCHW.square().sum().backward()
    y64_BCHW.square().sum().backward()
    torch.testing.assert_close(y_BCHW.double(), y64_BCHW, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x_BCHW.grad.double(), x64_BCHW.grad, rtol=1e-5, atol=1e-5)
    for own, its in zip(conv.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own.grad.double(), its.grad, rtol=1e-5, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(conv(x_BCHW), y_BCHW)


def test_other_convolutions_stay_what_they_are():
    others = [nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, 2, groups=4)]
    assert all(type(conv) is nn.Conv2d for conv in narrow_convs(nn.Sequential(*others)))


def test_it_trains_where_there_is_no_avx512():
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    ended = subprocess.run([sys.executable, "-c", TRAIN], env=environment, check=False)
    assert ended.returncode == 0
