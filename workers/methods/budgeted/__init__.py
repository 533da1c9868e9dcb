"""Budgeted Super Networks: REINFORCE over stochastic edges, under any cost.

T. Veniat and L. Denoyer: "Learning Time/Memory-Efficient Deep Architectures with Budgeted Super
Networks", 2018, with its supplement.

Every edge of a fabric is on with a probability that is learned, for each sample by itself. Networks
that cost more than the budget are penalised; as only the cost's value is needed, it may be
anything: a count, a schedule's length, a measured or a random time.

- `edges`: drawing architectures, their probabilities, the edges that lie on paths;
- `supernet`: the fabric in which every sample has its own edges (Algorithm 1);
- `reinforce`: the gradient's baseline (Eq. 11 to 18);
- `fabric_training`: steps, epochs, optimisers; `search`: the stages; `config`: the settings;
- `checks`: what is refused before anything runs.

Read into the paper: edges are drawn in topological order, and one that is not connected to the
input adds no term to the log-probability; costs are those of the edges that lie on a path.
"""

from workers.methods.budgeted.checks import check
from workers.methods.budgeted.config import Config, auto_lambdas
from workers.methods.budgeted.search import pretrain, search
from workers.protocol import Method
from workers.training import finish

__all__ = ["METHOD", "Config"]

METHOD = Method(
    "budgeted", Config, search, finish, pretrain, check=check, auto={"lambda": auto_lambdas}
)
