"""Figure 10 of the clipped-Lasso paper: how the norms of kept filters are spread, by penalty."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import torch

from orchestrator.figure_parts import groups, hover, styled
from orchestrator.loading import Study
from workers.storage import Storage
from workers.trial import inherited_path, load_weights

PENALTIES = ("clipped", "group")
BINS_E = np.linspace(0, 4, 41)  # edges, in means of a layer's norms
CENTERS_B = (BINS_E[:-1] + BINS_E[1:]) / 2


def norm_histogram(study: Study) -> go.Figure | None:
    """Shares of a subnet's filters by norm, as its generation left them, over their layer's mean.

    A norm is over the inputs that the subnet keeps; others are not in its weights. None where no
    penalty generated subnets.
    """
    storage = Storage(study.directory)
    generated = [
        record
        for record in study.records
        if record["params"].get("penalty") in PENALTIES
        and storage.exists(inherited_path(record["candidate"]))
    ]
    if not generated:
        return None
    figure = go.Figure()
    for label, color, records in groups(study, generated):
        for index, record in enumerate(records):
            weights = load_weights(storage, inherited_path(record["candidate"]))
            counts_B, _ = np.histogram(relative_norms(weights).clip(max=BINS_E[-1]), BINS_E)
            figure.add_scatter(
                x=CENTERS_B,
                y=100 * counts_B / counts_B.sum(),
                mode="lines",
                line={"color": color, "shape": "hvh", "width": 1.6},
                name=label,
                legendgroup=label,
                showlegend=index == 0,
                text=[hover(record)] * len(CENTERS_B),
                hovertemplate="%{text}<br>norm %{x:.2f}: %{y:.1f} %<extra></extra>",
            )
    return styled(figure, "norm over the layer's mean", "filters (%)")


def relative_norms(weights: Mapping[str, torch.Tensor]) -> np.ndarray:
    """Return the norms of all filters of convolutions that see more than one position.

    Args:
        weights: a state dict; weights of shape (O, I, H, W) with H * W > 1 count.

    Returns:
        Each norm over the mean of its layer's norms, shape (filters,).
    """
    filters = [w for w in weights.values() if w.dim() == 4 and w[0, 0].numel() > 1]
    norms = [torch.linalg.vector_norm(weight.flatten(1), dim=1) for weight in filters]
    return np.concatenate([(norms_O / norms_O.mean()).numpy() for norms_O in norms])
