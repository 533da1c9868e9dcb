"""PruNet: tiered pruning for differentiable, latency-aware architecture search.

S. Kierat, M. Sieniawski, D. Fridman, C.-H. Yu, S. Migacz, P. Morkisz, A. Fit-Florea: "Tiered
Pruning for Efficient Differentiable Inference-aware Neural Architecture Search", 2022.

One supernet is trained once (`pretrain`); every search starts there, trains weights and
architecture in turn against cross entropy + alpha ln(latency)^beta, and shrinks to one network:

- `prunode`: widths inside a block, two at a time (section 3.2.1, Algorithm 1);
- `supernet`: blocks of a layer, and whole layers (sections 3.2.2 and 3.2.3);
- `supernet_training`: steps, epochs, optimisers; `search`: the stages; `config`: the settings;
- `checks`: what is refused before anything runs.

Left out: the detection networks of section 4.2. Where the paper is silent or contradicts itself,
the docstring of the place says what is read into it.
"""

from workers.methods.prunet.checks import check
from workers.methods.prunet.config import Config
from workers.methods.prunet.search import pretrain, search, select
from workers.protocol import Method
from workers.training import finish

__all__ = ["METHOD", "Config"]

METHOD = Method("prunet", Config, search, finish, pretrain, select, check)
