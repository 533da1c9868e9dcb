"""Elastic supernets that train in seconds: small networks for the images of `tiny`."""

import torch

from cost_models.macs import macs
from search_spaces.ofa_mobilenet_v3 import OFAMobileNetV3
from search_spaces.ofa_resnet50 import OFAResNet50
from tests.workers.methods.tiny import tiny_split
from workers.datasets import Data
from workers.protocol import Problem

SIZES = {"in_shape": (1, 8, 8), "num_classes": 4, "resolutions": (6, 8)}
MOBILENET = OFAMobileNetV3(OFAMobileNetV3.Config(preset="mbv3_28", **SIZES))
RESNET = OFAResNet50(OFAResNet50.Config(preset="resnet_28", **SIZES))
DATA = Data("tiny", tiny_split(96, 1), tiny_split(40, 2), tiny_split(8, 3), 4, (0.3,), (0.2,))


def elastic_problem(space=MOBILENET, seed=0, start=None) -> Problem:
    return Problem(
        space=space,
        data=DATA,
        table=None,
        cost=lambda architecture: macs(space.layers(architecture)),
        seed=seed,
        device=torch.device("cpu"),
        start=start,
    )
