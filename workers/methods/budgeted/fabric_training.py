"""A stochastic super network in training: its optimisers, its step, its figures of every epoch.

Shapes: B samples of this rank's part of a batch; E edges; K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from itertools import chain

import torch
from torch import nn
from torch.nn import functional

from search_spaces.base import Architecture, SearchSpace
from search_spaces.fabric import Fabric
from workers.batches import batches, draws_for, generator, part_of
from workers.datasets import IGNORED
from workers.draws import Draws, Part
from workers.evaluation import lifted
from workers.inputs import training_batch
from workers.methods.budgeted.config import Config
from workers.methods.budgeted.edges import Wiring
from workers.methods.budgeted.reinforce import advantages
from workers.methods.budgeted.supernet import StochasticFabric
from workers.optimizers import decay_groups
from workers.protocol import Problem, State, copied, seeded
from workers.ranks import all_finite, average_gradients, average_tensors, on_any_rank
from workers.sharding import load_optimizer, sharded

SETTLED = (0.05, 0.95)  # an edge is settled when its probability is beyond them
MOVED = 0.25  # and its logit further than this from its start, which is itself beyond them


class FabricTraining:
    """A super network, its optimisers, the epochs done (warm-up's and the search's), figures.

    Args:
        problem: the task; its space must be a fabric.
        config: the settings.
        state: what `state()` returned, to continue from. Of what warm-up left, the weights and
            their optimiser are taken: edges start as the settings say.
        fixed: the architecture that every sample has during the search, instead of a draw.

    Raises:
        ValueError: the space is not a fabric.
    """

    def __init__(
        self,
        problem: Problem,
        config: Config,
        state: State | None,
        fixed: Architecture | None = None,
    ) -> None:
        self.problem, self.config = problem, config
        self.wiring = Wiring(fabric_of(problem.space))
        supernet = _supernet(problem, config, state)
        self.supernet = sharded(
            supernet,
            problem.sharding,
            problem.device,
            units=supernet.network.children(),
            whole=[supernet.logits_E],
        )
        # As a recipe's `sgd`: a study's hand-made networks are trained alike.
        self.weight_optimizer = torch.optim.SGD(
            decay_groups(self.supernet.network, config.weight_decay),
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.momentum > 0,
            foreach=True,
        )
        kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
        logits = [self.supernet.logits_E]
        self.logit_optimizer = kinds[config.logit_optimizer](logits, lr=config.logit_lr)
        self.fixed_E: torch.Tensor | None = None
        if fixed is not None:
            self.fixed_E = torch.tensor([name in fixed for name in self.wiring.names])
        self.train_split = problem.data.train.to(problem.device)
        self.epoch = 0
        self.metrics: dict[str, float] = {}
        if state is not None:
            self._restore(state)

    @property
    def search_epoch(self) -> int:
        """Epochs of the search that are done; negative during warm-up."""
        return self.epoch - self.config.warmup_epochs

    @property
    def probabilities_E(self) -> torch.Tensor:  # noqa: N802
        """The probability of every edge."""
        return self.supernet.logits_E.detach().sigmoid().cpu()

    def state(self) -> State:
        """Return all that a run continues from, to the bit."""
        return {
            "epoch": self.epoch,
            "metrics": dict(self.metrics),
            "network": copied(self.supernet.network.state_dict()),
            "weight_optimizer": copied(self.weight_optimizer.state_dict()),
            "logits_E": copied(self.supernet.logits_E),
            "logit_optimizer": copied(self.logit_optimizer.state_dict()),
            "fixed_E": self.fixed_E,
        }

    def train_epoch(self) -> None:
        """Train for an epoch: with every edge on during warm-up, with random edges afterwards.

        Raises:
            FloatingPointError: the loss or a weight is not finite; names the epoch.
        """
        config, data, seed = self.config, self.problem.data, self.problem.seed
        self.supernet.train()
        for group in self.weight_optimizer.param_groups:
            group["lr"] = config.learning_rate(self.epoch)
        take, part = self._step(), part_of(self.train_split, config.batch_size)
        figures = []
        loaded = batches(self.train_split, config.batch_size, seed=seed, epoch=self.epoch)
        for step, (samples_B, labels_B) in enumerate(loaded):
            draws = draws_for(part, seed, "augment", self.epoch, step)
            x_BCHW, labels_B = training_batch(samples_B, labels_B, data, config.augment, draws)
            x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
            figures.append(take(x_BCHW, labels_B, part, step))
        self.epoch += 1
        self.metrics = self._figures(torch.stack(figures))

    def _step(self) -> Callable[[torch.Tensor, torch.Tensor, Part, int], torch.Tensor]:
        """Return what a step of this epoch does."""
        if self.search_epoch < 0:
            return partial(self._plain_step, on_E=None)
        if self.fixed_E is not None:
            return partial(self._plain_step, on_E=self.fixed_E.to(self.problem.device))
        return self._search_step

    def _plain_step(
        self,
        x_BCHW: torch.Tensor,
        labels_B: torch.Tensor,
        part: Part,
        step: int,
        on_E: torch.Tensor | None,
    ) -> torch.Tensor:
        """Make a step on weights alone, with these edges, or all, for every sample."""
        del step
        gates_EB = None if on_E is None else on_E[:, None].expand(-1, len(x_BCHW))
        ce = part.mean(self._cross_entropy(x_BCHW, labels_B, gates_EB))
        _descend(ce, [self.weight_optimizer])
        return ce.detach()[None]

    def _search_step(
        self, x_BCHW: torch.Tensor, labels_B: torch.Tensor, part: Part, step: int
    ) -> torch.Tensor:
        """Make a step on weights and logits (Eq. 11 to 18, with a baseline)."""
        logits_E = self.supernet.logits_E
        draw = self.wiring.draw(logits_E, self._uniform(part, step).to(logits_E.device))
        kept_EB = self.wiring.pruned(draw.on_EB)
        ce_B = self._cross_entropy(x_BCHW, labels_B, kept_EB)
        costs_B = self._costs(kept_EB, x_BCHW, part, step)
        budget = math.inf if self.config.budget is None else self.config.budget
        excess_B = (costs_B - budget).clamp(min=0)
        objective_B = ce_B.detach() + self.config.penalty(self.search_epoch) * excess_B
        surrogate = part.mean(advantages(objective_B, part) * draw.log_prob_B(logits_E))
        ce = part.mean(ce_B)
        _descend(ce + surrogate, [self.weight_optimizer, self.logit_optimizer])
        return torch.stack([ce, part.mean(objective_B), part.mean(costs_B)]).detach()

    def _uniform(self, part: Part, step: int) -> torch.Tensor:
        """Return this rank's columns of the batch's numbers, which no number of ranks changes."""
        draws = generator(self.problem.seed, "edges", self.epoch, step)
        uniform_BE = torch.rand(part.batch, len(self.wiring.names), generator=draws)
        return uniform_BE[part.own].T

    def _costs(
        self, kept_EB: torch.Tensor, x_BCHW: torch.Tensor, part: Part, step: int
    ) -> torch.Tensor:
        """Return what every sample's network costs; one without a path costs nothing."""
        draws = Draws(generator(self.problem.seed, "costs", self.epoch, step), part)
        costs = []
        with torch.random.fork_rng(devices=[]):  # random costs draw from torch's generator
            for kept_E, x_CHW, seed in zip(
                kept_EB.T.cpu(), x_BCHW, draws.integers(0, 2**62).tolist(), strict=True
            ):
                # Not `torch.manual_seed`, which takes a while to queue seeds for absent devices.
                torch.default_generator.manual_seed(seed)
                architecture = self.wiring.architecture(kept_E)
                costs.append(self.problem.cost(architecture, x_CHW) if architecture else 0.0)
        return torch.tensor(costs, device=x_BCHW.device)

    def _cross_entropy(
        self, x_BCHW: torch.Tensor, labels_B: torch.Tensor, gates_EB: torch.Tensor | None
    ) -> torch.Tensor:
        """Return every sample's cross entropy; where labels are maps, that of its labelled pixels.

        The mean is over pixels then.
        """
        amp = self.config.amp and self.problem.device.type == "cuda"
        with torch.autocast("cuda", torch.bfloat16) if amp else nullcontext():
            logits_BK = self.supernet(x_BCHW, gates_EB, self._used(gates_EB))
        ce_B = functional.cross_entropy(lifted(logits_BK), labels_B, reduction="none")
        if labels_B.dim() == 1:
            return ce_B
        labelled_B = (labels_B != IGNORED).flatten(1).sum(1)
        return ce_B.flatten(1).sum(1) / labelled_B.clamp(min=1)

    def _used(self, gates_EB: torch.Tensor | None) -> torch.Tensor | None:
        """Return the edges to compute, the same on all ranks: they gather weights or norms."""
        return None if gates_EB is None else on_any_rank(gates_EB.any(1))

    def _figures(self, figures: torch.Tensor) -> dict[str, float]:
        means = figures.mean(0)
        average_tensors([means])
        names = ("train_loss", "search_loss", "mean_cost")
        named = dict(zip(names, means.tolist(), strict=False))
        epoch = self.search_epoch if self.search_epoch > 0 else self.epoch
        for name, value in named.items():
            if not math.isfinite(value):
                raise FloatingPointError(f"epoch {epoch}: {name} is {value}; a lower lr may help")
        # The last step's loss is that of the weights before it.
        if not all_finite(self.supernet.state_dict().values()):
            raise FloatingPointError(f"epoch {epoch}: weights are not finite; a lower lr may help")
        if self.search_epoch > 0 and self.fixed_E is None:
            named |= {"settled": self.settled(), "likely_edges": float(self.likely_E().sum())}
        return named

    def likely_E(self) -> torch.Tensor:  # noqa: N802
        """Return which edges are more likely on than off."""
        return self.probabilities_E > 0.5

    def settled(self) -> float:
        """Return the share of the edges that can be drawn on a path that are as good as decided."""
        low, high = SETTLED
        probabilities_E = self.probabilities_E
        moved_E = (self.supernet.logits_E.detach().cpu() - self.config.logit_start).abs() > MOVED
        decided_E = moved_E & ((probabilities_E < low) | (probabilities_E > high))
        drawable_E = self.wiring.drawable(probabilities_E > low)
        return float(decided_E[drawable_E].double().mean()) if drawable_E.any() else 1.0

    def _restore(self, state: State) -> None:
        self.epoch, self.metrics = state["epoch"], dict(state["metrics"])
        load_optimizer(self.weight_optimizer, state["weight_optimizer"])
        if self.search_epoch > 0:
            self.supernet.logits_E.data.copy_(state["logits_E"])
            load_optimizer(self.logit_optimizer, state["logit_optimizer"])
            self.fixed_E = state["fixed_E"]


def fabric_of(space: SearchSpace) -> Fabric:
    """Return the fabric of a space.

    Raises:
        ValueError: it is built from none.
    """
    fabric = getattr(space, "fabric", None)
    if not isinstance(fabric, Fabric):
        raise ValueError(
            f"space: budgeted searches fabrics; {space.name} is not allowed:"
            " use resnet_fabric or conv_fabric"
        )
    return fabric


def _supernet(problem: Problem, config: Config, state: State | None) -> StochasticFabric:
    fabric = fabric_of(problem.space)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(problem.seed, "weights").getrandbits(63))
        supernet = StochasticFabric(fabric, config.logit_start)
    if state is not None:
        supernet.network.load_state_dict(state["network"])
    return supernet


def _descend(loss: torch.Tensor, optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Take a step; where no sample used an edge its weights have a gradient of zero, not none."""
    loss.backward()  # type: ignore[no-untyped-call]
    groups = chain.from_iterable(optimizer.param_groups for optimizer in optimizers)
    parameters: list[nn.Parameter] = list(chain.from_iterable(g["params"] for g in groups))
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    average_gradients(parameters)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
