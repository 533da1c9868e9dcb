"""What a trial's finished networks make together: the files in `products/<trial>/`."""

from __future__ import annotations

import torch

from orchestrator.loading import finished as is_finished
from orchestrator.loading import load
from orchestrator.results import Results
from search_spaces.base import SearchSpace
from workers.protocol import Finished, Method
from workers.trial import load_weights, weights_path


def write_products(results: Results, space: SearchSpace, method: Method) -> str | None:
    """Write the files that hold a trial's finished networks together, if the method makes any.

    Returns:
        What to tell if it makes them, but not of these networks; else None.
    """
    if method.deliver is None:
        return None
    study = load(results.storage.root, is_finished)
    predicted, labels = study.predicted("val"), study.labels("val")
    assert labels is not None
    trials: dict[str, list[Finished]] = {}
    for record in sorted(study.finished(), key=lambda record: record["cost"]):
        if record["trial"] is not None:
            name = record["candidate"]
            weights = load_weights(results.storage, weights_path(name))
            classes = torch.from_numpy(predicted[name]), torch.from_numpy(labels)
            trials.setdefault(record["trial"], []).append(Finished(record, weights, *classes))
    delivered = False
    for trial, finished in trials.items():
        for name, contents in method.deliver(space, finished).items():
            results.storage.write_bytes(f"products/{trial}/{name}", contents)
            delivered = True
    if delivered:
        return None
    return (
        "no product: no trial's networks share weights;"
        " training.inherited_epochs: 0 leaves them as they were trained together"
    )
