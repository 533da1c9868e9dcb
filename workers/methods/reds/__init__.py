"""REDS: nested subnets of one network, chosen by knapsacks and trained together.

F. Corti, B. Maag, J. Schauer, U. Pferschy, O. Saukh: "REDS: Resource-Efficient Deep Subnetworks
for Dynamic Resource Constraints", 2023.

A full network is trained once (`pretrain`). A search scores its units, sorts them, and finds how
many of each layer a subnet keeps, so that every subnet is a leading slice of all tensors and lies
within the next larger one. Then all of them are trained together.

- `units`: which entries of which tensor a unit owns; `importance`: what it is worth;
  `permutation`: the best first;
- `formulation`, `prices`: the knapsack of a space;
- `knapsack`: its solution; `chain`, `labels`, `relaxation`: the proven optimum where each layer
  reads the one before; `groups`, `elimination`, `exchange`: widths and a bound for all other
  networks, where what may be missing is reported;
- `joint_training`: the loss of all subnets; `search`: the stages; `config`, `checks`;
- `deliver`, `load_subnet`: the one file that a device takes away.

Where the paper is silent, or its authors' code differs, the docstring of the place says what is
done here.
"""

from workers.methods.reds.checks import check
from workers.methods.reds.config import Config
from workers.methods.reds.deliver import deliver
from workers.methods.reds.search import pretrain, search
from workers.protocol import Method
from workers.training import finish

__all__ = ["METHOD", "Config"]

SLICES = "its subnets are slices of the full network's weights, read outside its forward"
METHOD = Method(
    "reds",
    Config,
    search,
    finish,
    pretrain,
    check=check,
    deliver=deliver,
    not_in_parts={"pretrain": SLICES, "search": SLICES},
)
