"""Models in training on several ranks: whole on each of them, or in parts.

A training loop calls `sharded` once, before it makes an optimiser, and averages gradients after
the last backward pass of a step (`workers.ranks`); everything else stays as it is for one rank.

Whole (`ddp`), every rank has all weights. In parts (`fsdp`: torch's `fully_shard`, or FSDP2), a
rank has a share of each weight, of its gradient and of what the optimiser remembers of it. A unit's
weights are gathered while the unit computes; their gradients are averaged and scattered during the
backward pass. States are gathered when they are copied (`protocol.copied`), so a checkpoint is the
same file for any number of ranks, and either way.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional
from torch.nn.modules._functions import SyncBatchNorm
from torch.overrides import TorchFunctionMode

from workers.protocol import State
from workers.ranks import is_part, place

Model = TypeVar("Model", bound=nn.Module)


def sharded(
    model: Model,
    sharding: Literal["ddp", "fsdp"],
    device: torch.device,
    *,
    units: Iterable[nn.Module] | None = None,
    whole: Collection[nn.Parameter] = (),
) -> Model:
    """Return the model where it trains, in place: whole, in channels-last layout, or in parts.

    Ranks hold parts where `sharding` is fsdp and there are several. A model that has no room on a
    device as a whole then moves there unit by unit.

    Args:
        model: on the CPU or the device, its tensors already those to start from.
        sharding: how ranks hold it.
        device: where it trains.
        units: modules whose weights are gathered together, the model's children unless given. All
            that reads the weights of one does so inside its `forward`, which is called on all
            ranks or on none.
        whole: parameters that every rank holds whole, as they are read outside any `forward`.
    """
    if sharding == "fsdp" and place()[1] > 1:
        _take_apart(model, device, model.children() if units is None else units, set(whole))
        return model.to(device)  # what is not taken apart
    # Twice as fast on a CPU as the default layout, for depthwise convolutions above all.
    return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def load_optimizer(optimizer: torch.optim.Optimizer, state: State) -> None:
    """Load a copy of what `copied` made of a state; of weights in parts, each rank takes its own.

    A copy, because optimisers adopt a state's tensors, and many searches may share one start.
    """
    params = [param for group in optimizer.param_groups for param in group["params"]]
    kept = {
        index: {name: _like(value, params[index]) for name, value in values.items()}
        for index, values in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": kept})


def propagate(loss: torch.Tensor, parameters: Collection[nn.Parameter]) -> None:
    """Add to the gradients of these parameters; what has no part in them is not computed.

    Of weights in parts autograd sees the gathered ones alone: other gradients are computed along.
    """
    if any(map(is_part, parameters)):
        loss.backward()  # type: ignore[no-untyped-call]
    else:
        torch.autograd.backward(loss, inputs=list(parameters))


def synced_norms(on: bool) -> AbstractContextManager[object]:
    """Return a context in which batch norms in training normalise by the batch of all ranks.

    Whatever module calls them, with whole weights or slices; on GPUs only, as torch's
    SyncBatchNorm, which does the work, exists for these alone.
    """
    return _SyncedNorms() if on and place()[1] > 1 else nullcontext()


class _SyncedNorms(TorchFunctionMode):
    """Replaces torch's batch norm; SyncBatchNorm as a module would not reach sliced norms."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if func is not functional.batch_norm or not named["training"]:
            return func(*args, **named)
        x, mean, var = args
        weight, bias, eps, share = (named[k] for k in ("weight", "bias", "eps", "momentum"))
        group = dist.group.WORLD
        ranks = place()[1]
        return SyncBatchNorm.apply(  # type: ignore[no-untyped-call]
            x, weight, bias, mean, var, eps, share, group, ranks
        )


def _take_apart(
    model: nn.Module, device: torch.device, units: Iterable[nn.Module], whole: set[nn.Parameter]
) -> None:
    # Imported here: they take half a second, and most processes never need them.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (place()[1],))
    for module in (*units, model):
        if any(parameter not in whole for parameter in module.parameters()):
            # The outermost unit, too, is to forget what it gathered: its weights may be replaced.
            unit = fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=whole)
            if device.type == "cpu":  # gloo has no reduction to means
                unit.set_force_sum_reduction_for_comms(True)


def _like(value: Any, parameter: nn.Parameter) -> Any:
    """Return a copy of an optimiser's value; this rank's part, where it is as large as the weight.

    Others, such as counters of steps, every rank has whole.
    """
    if not isinstance(value, torch.Tensor) or not is_part(parameter):
        return copy.deepcopy(value)
    if value.shape != parameter.shape:
        return value.clone()
    from torch.distributed.tensor import distribute_tensor  # as above

    mesh, placements = parameter.device_mesh, parameter.placements  # type: ignore[attr-defined]
    return distribute_tensor(value, mesh, placements, src_data_rank=None)
