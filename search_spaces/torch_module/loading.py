"""From the name of a function to the network that it makes."""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook


def new_network(function: str, options: dict[str, Any]) -> nn.Module:
    """Return what a function makes, freshly initialised; importing and calling it runs its code.

    Args:
        function: `package.module:function`.
        options: keyword arguments.

    Raises:
        ValueError: there is no such function, it refuses the options, or makes no module.
    """
    module, _, name = function.partition(":")
    try:
        make = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"function: {function!r} cannot be imported: {error}") from error
    try:
        network = make(**options)
    except Exception as error:  # of code that is not ours
        raise ValueError(f"function: {function} refuses its options {options}: {error}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"function: {function} makes a {type(network).__name__}, not a Module")
    return network


def network_on_meta(function: str, options: dict[str, Any]) -> nn.Module:
    """Return what a function makes, in evaluation mode, its tensors without memory or contents.

    Parameters lose theirs as soon as they are registered. (Under `torch.device("meta")` all tensors
    would, those too from which some functions compute how wide their layers are.)

    Raises:
        ValueError: as `new_network`.
    """
    # Its annotation says that hooks return nothing; what they return takes the parameter's place.
    hook = register_module_parameter_registration_hook(_emptied)  # type: ignore[arg-type]
    try:
        return new_network(function, options).to("meta").eval()
    finally:
        hook.remove()


def _emptied(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
    del module, name
    if parameter is None:
        return None
    return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
