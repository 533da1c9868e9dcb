"""Networks as ONNX models, checked in onnxruntime against torch before they are called done.

Batch norms are folded into convolutions, since networks are exported in evaluation mode. torch's
older exporter is used: 0.02 s for a block where the newer one takes 0.7 s.
"""

from __future__ import annotations

import copy
import io
import warnings
from typing import Any, cast

import numpy as np
import onnxruntime
import torch
from torch import nn

from search_spaces.base import Shape

INPUT, OUTPUT = "input", "output"
OPSET = 17
MAX_DIFFERENCE = 1e-4  # between outputs of onnxruntime and torch, see `max_difference`
ORDINARY = 10.0  # outputs up to it must agree absolutely


def checked_onnx(module: nn.Module, in_shape: Shape) -> bytes:
    """Return a network as ONNX, for batches of any size, if it computes what torch computes.

    Args:
        module: the network; it is left as it is, whatever its mode.
        in_shape: shape of one sample.

    Raises:
        ValueError: outputs differ by 1e-4 or more, as `max_difference` counts it.
    """
    model = to_onnx(module, in_shape, batch_size=None)
    difference = max_difference(model, module, in_shape)
    if not difference < MAX_DIFFERENCE:
        raise ValueError(
            f"ONNX: onnxruntime and torch differ by {difference:.1e}; allowed: {MAX_DIFFERENCE}"
        )
    return model


def to_onnx(module: nn.Module, in_shape: Shape, batch_size: int | None = 1) -> bytes:
    """Return a module in evaluation mode as an ONNX model; batches of any size for None.

    The module's one input is named "input", its one output "output"; both are float32.
    """
    example_BCHW = torch.zeros(batch_size or 2, *in_shape)
    axes = {INPUT: {0: "batch"}, OUTPUT: {0: "batch"}} if batch_size is None else None
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # torch announces the end of its older exporter on every call.
        warnings.filterwarnings("ignore", "You are using the legacy", DeprecationWarning)
        warnings.filterwarnings("ignore", "The feature will be removed", DeprecationWarning)
        # Padding of one side becomes constants that onnxruntime folds.
        warnings.filterwarnings("ignore", "Constant folding - Only steps=1", UserWarning)
        torch.onnx.export(
            copy.deepcopy(module).cpu().eval(),
            (example_BCHW,),
            cast(Any, buffer),  # its annotation lacks files that are open
            dynamo=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes=axes,
            opset_version=OPSET,
        )
    return buffer.getvalue()


def max_difference(model: bytes, module: nn.Module, in_shape: Shape, seed: int = 0) -> float:
    """Return the largest difference between onnxruntime and torch on two random samples.

    It is absolute while outputs stay within [-10, 10]. float32 rounds larger ones by more, about
    1e-6 of them: beyond, it shrinks by as much as torch's largest output exceeds 10, so that 1e-4
    stands for 1e-5 of that output. NaN where either gives NaN or infinity.
    """
    noise_BCHW = np.random.default_rng(seed).standard_normal((2, *in_shape), dtype=np.float32)
    session = open_session(model)
    ours = session.run([OUTPUT], {INPUT: noise_BCHW})[0]
    with torch.inference_mode():
        theirs = copy.deepcopy(module).cpu().eval()(torch.from_numpy(noise_BCHW)).numpy()
    return float(np.abs(ours - theirs).max() / max(1.0, np.abs(theirs).max() / ORDINARY))


def open_session(model: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """Return a session on the CPU that runs with a fixed number of threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    # Threads may spin during a call, but not between calls: other sessions run there.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
