"""Any module of torch whose channels can be cut, by the name of a function that makes it.

`function` is `package.module:function`, such as `torchvision.models:mobilenet_v2`, and is called
with `num_classes` and `options`. Naming it runs its code, and that of every module which it
imports, on the driver and on every node: a study that names a function deserves the trust that a
program does. Nothing but a name is accepted, and the function must be installed on every node.

Channels that must go together (those of layers whose outputs are added, say) are a group, found
with the dependency graph of Torch-Pruning (Fang et al., "DepGraph: Towards Any Structural Pruning",
2023). An architecture gives the units that every group keeps, the first ones, under the name of the
group's first layer: `{"features.0.0": 32, ...}`. A unit is a channel, or, where a grouped
convolution ties channels to each other, what one of its groups reads and writes. The network's
input and its classes stay whole.

All networks of a space have the same tensors, and those of a narrower network are the leading
slices of the full one's. A new network's weights are drawn as the function draws the full one's,
and cut.

- `config`: the options; `loading`: from a name to a network, with tensors or without;
- `operations`: what may be done to channels; `tracing`: a network as a list of that;
- `groups`: which channels go together; `cutting`: what becomes of a module;
- `space`: the space itself; `blocks`: its parts, for latency tables.
"""

from search_spaces.torch_module.config import Config
from search_spaces.torch_module.space import TorchModule

__all__ = ["Config", "TorchModule"]
