"""Clipped-Lasso subnets: one network that runs at several widths, which a penalty chose.

L. Yang, Z. He, Y. Cao, D. Fan: "Non-uniform DNN Structured Subnets Sampling for Dynamic Inference",
2020.

A penalty on the norms of filters makes those vanish that a layer can spare (`search`); what is left
are channel counts, one subnet for every (lambda, a). Then the subnets and the full network are
trained together from scratch (`fuse`), as slices of one set of weights.

- `penalty`: Group Lasso and the clipped Lasso (Eq. 1 and 3); `proximal`: how filters become zero;
- `counts`: from zero filters to channel counts; `search`: the stages that find them;
- `dynamic`: the network that runs as any of its subnets; `fused`: Algorithm 1; `any_width`: every
  width between the smallest subnet and the full network (section V-A);
- `training`: epochs and steps of all of them; `deliver`: the files of the product;
- `config`: the settings; `checks`: what is refused before anything runs.

Read into the paper: a subnet is the leading slices of the full network, as many as its counts say;
shortcuts are not penalised and follow their block's second convolution.
"""

from workers.methods.clipped_lasso.checks import check
from workers.methods.clipped_lasso.config import Config
from workers.methods.clipped_lasso.deliver import deliver
from workers.methods.clipped_lasso.dynamic import DynamicNetwork, load_dynamic
from workers.methods.clipped_lasso.fused import fuse
from workers.methods.clipped_lasso.search import pretrain, search, select
from workers.protocol import Method
from workers.training import finish

__all__ = ["METHOD", "Config", "DynamicNetwork", "load_dynamic"]

OUTSIDE = "its penalty and its subnets read the network's weights outside its forward"
METHOD = Method(
    "clipped_lasso",
    Config,
    search,
    finish,
    pretrain,
    select,
    check,
    deliver=deliver,
    fuse=fuse,
    fused_over=("lambda", "a", "width_mult"),
    not_in_parts={"search": OUTSIDE, "fuse": OUTSIDE},
)
