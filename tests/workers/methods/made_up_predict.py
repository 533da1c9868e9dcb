"""Predictions of networks that need no supernet: made up, but alike for networks that are alike."""

import dataclasses

import numpy as np
import torch

from search_spaces.base import option_of
from tests.workers.methods.tiny_elastic import DATA, MOBILENET, elastic_problem
from workers.datasets.base import TensorSplit

SAMPLES = 400


class MadeUpPredict:
    """Each sample weighs a network's options in its own way; it is right if that is above zero.

    Larger options help more often than not. `calls` has how many networks every call asked for.
    """

    def __init__(self, space=MOBILENET, samples=SAMPLES):
        rng = np.random.default_rng(0)
        self.space = space
        self.weights_NC = rng.normal(0.25, 1.0, (samples, len(space.choices)))
        self.biases_N = rng.normal(0.0, 1.0, samples)
        self.labels_N = torch.from_numpy(rng.integers(0, 4, samples))
        self.calls = []

    def __call__(self, architectures):
        self.calls.append(len(architectures))
        return [self._one(architecture) for architecture in architectures]

    def _one(self, architecture):
        right_N = torch.from_numpy(self.weights_NC @ self._features(architecture) > self.biases_N)
        return torch.where(right_N, self.labels_N, (self.labels_N + 1) % 4).to(torch.int16)

    def _features(self, architecture):
        """Return each option's place among those offered, from -1 to 1; inactive ones have -1."""
        places = []
        for choice in self.space.choices:
            option = option_of(architecture, choice.name)
            place = 0 if option is None else choice.options.index(option)
            places.append(2 * place / max(1, len(choice.options) - 1) - 1)
        return np.array(places)


def made_up_problem(seed=0, space=MOBILENET):
    """A problem whose held-out images have the labels that the predictions are about."""
    predict = MadeUpPredict(space)
    images = torch.zeros(SAMPLES, 1, 8, 8, dtype=torch.uint8)
    data = dataclasses.replace(DATA, val=TensorSplit(images, predict.labels_N))
    return dataclasses.replace(elastic_problem(space, seed), data=data, predict=predict)
