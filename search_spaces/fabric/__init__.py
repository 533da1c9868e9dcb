"""Fabrics: graphs that hold many networks, each made of some of the edges.

Veniat and Denoyer, "Learning Time/Memory-Efficient Deep Architectures with Budgeted Super
Networks", search in two of them: `resnet_fabric` and `conv_fabric`, which list their nodes and
edges with what is here.

An architecture says which edges are on, `{"block0_0": true, ...}`; edges that are not named are
off. In its canonical form it names the edges that lie on a path from stem to head. With no path it
is empty and stands for no network.
"""

from search_spaces.fabric.graph import Edge, Fabric, Node
from search_spaces.fabric.modules import FabricNetwork, Step, Sum
from search_spaces.fabric.records import (
    HEAD,
    STEM,
    basic_block_layers,
    classifier_layers,
    conv_norm_layers,
    pixel_classifier_layers,
    stem_layers,
)

__all__ = [
    "HEAD",
    "STEM",
    "Edge",
    "Fabric",
    "FabricNetwork",
    "Node",
    "Step",
    "Sum",
    "basic_block_layers",
    "classifier_layers",
    "conv_norm_layers",
    "pixel_classifier_layers",
    "stem_layers",
]
