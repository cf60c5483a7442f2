"""The methods that the studies of edge pruning compare, and how they look in plots."""

from __future__ import annotations

from collections.abc import Mapping

import torch

import nn
from examples.images import ImageSet
from nn.edges import Hybrid, Randomised
from nn.layers import find_layers
from nn.method import Method
from nn.selection import ERK, LAMP

__all__ = ["STYLES", "methods"]

# Layers with more edges a neuron keep the searches busy for hours.
_MOST_EDGES = 4096


def methods(images: ImageSet, network: torch.nn.Module | None = None) -> dict[str, Method]:
    """The methods compared, by the names in tables.

    Parameters
    ----------
    images : ImageSet
        SynFlow looks at their shape, and at nothing else.
    network : torch.nn.Module, optional
        Searches are left out if it has layers that are too wide for them.
    """
    chosen: dict[str, Method] = {
        "random": nn.Random(),
        "magnitude, uniform": nn.Magnitude(nn.Uniform()),
        "magnitude, global": nn.Magnitude(),
        "magnitude, ERK": nn.Magnitude(ERK()),
        "magnitude, LAMP": nn.Magnitude(LAMP()),
        "SynFlow": nn.SynFlow(input_shape=images.shape),
        "SNIP": nn.SNIP(),
        "GraSP": nn.GraSP(),
        "Taylor": nn.Taylor(),
        "Wanda": nn.Wanda(),
        "CoreNet": nn.CoreNet(),
        "SiPP, deterministic": nn.SiPP(),
        "SiPP, randomised": nn.SiPP(Randomised()),
        "SiPP, hybrid": nn.SiPP(Hybrid()),
        "magnitude, global, refitted": nn.Refit(nn.Magnitude()),
        "Wanda, refitted": nn.Refit(nn.Wanda()),
        "feedback, refitted": nn.Refit(nn.Feedback()),
    }
    layers = {} if network is None else find_layers(network)
    if all(layer.shape[2] <= _MOST_EDGES for layer in layers.values()):
        chosen |= {
            "OLS forward": nn.OLSForward(max_edges=_MOST_EDGES),
            "OBS backward": nn.OBSBackward(max_edges=_MOST_EDGES),
            "best path": nn.BestPath(max_edges=_MOST_EDGES),
        }
    return chosen


# Colour, line style and width: what rebuilds layers stands out, the floor and magnitude are black.
STYLES: Mapping[str, tuple[str, str, float]] = {
    "random": ("black", ":", 1.2),
    "magnitude, uniform": ("black", "--", 1.2),
    "magnitude, global": ("black", "-", 1.6),
    "magnitude, ERK": ("tab:olive", "--", 1.2),
    "magnitude, LAMP": ("tab:olive", "-", 1.6),
    "magnitude, global, refitted": ("tab:gray", "-", 1.6),
    "SynFlow": ("tab:red", "-", 1.2),
    "SNIP": ("tab:red", "--", 1.2),
    "GraSP": ("tab:red", ":", 1.2),
    "Taylor": ("tab:red", "-.", 1.2),
    "Wanda": ("tab:brown", "--", 1.2),
    "Wanda, refitted": ("tab:brown", "-", 1.6),
    "CoreNet": ("tab:purple", ":", 1.2),
    "SiPP, deterministic": ("tab:purple", "--", 1.2),
    "SiPP, randomised": ("tab:purple", "-", 1.2),
    "SiPP, hybrid": ("tab:purple", "-.", 1.2),
    "feedback, refitted": ("tab:green", "-", 1.8),
    "OLS forward": ("tab:blue", "--", 1.8),
    "OBS backward": ("tab:orange", "-", 1.8),
    "best path": ("tab:blue", "-", 2.2),
}
