"""Weights that the authors of Once-for-all published, for our supernets."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from search_spaces.elastic.supernet import Supernet


def load_public(supernet: Supernet, path: Path) -> None:
    """Load a checkpoint file as `ofa_mbv3_d234_e346_k357_w1.0` into a supernet.

    The file holds `{"state_dict": tensors}` or the tensors alone, under the authors' names, which
    the space translates. Nothing else in it is unpickled.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a tensor is missing, unknown, or has another shape.
    """
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    tensors = loaded.get("state_dict", loaded)
    state = {supernet.space.own_name(plain(name)): tensor for name, tensor in tensors.items()}
    own = supernet.state_dict()
    for name in state.keys() - own.keys():
        raise ValueError(f"{path}: tensor {name!r} is not one of {supernet.space.name}")
    for name, tensor in own.items():
        if name not in state:
            raise ValueError(f"{path}: tensor {name!r} of {supernet.space.name} is missing")
        if state[name].shape != tensor.shape:
            given, allowed = list(state[name].shape), list(tensor.shape)
            raise ValueError(f"{path}: tensor {name!r} has shape {given}; allowed: {allowed}")
    supernet.load_state_dict(state)


def plain(public: str) -> str:
    """Return a tensor's public name without the wrapper that the authors' elastic layers are."""
    return re.sub(r"\b(conv|bn|linear)\.\1\.", r"\1.", public)
