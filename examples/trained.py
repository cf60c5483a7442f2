"""What the studies of networks share: trained networks, and arguments of the command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from examples.images import ImageSet, load_images
from examples.networks import NETWORKS, UnfitImagesError, train

__all__ = ["Trained", "batches", "parser", "run"]


def batches(part: tuple[torch.Tensor, torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Images and labels, 128 at a time."""
    return list(zip(*(tensor.split(128) for tensor in part), strict=True))


class Trained:
    """Networks of one kind on one image set, one a seed, each trained when it is first asked for.

    Parameters
    ----------
    images : ImageSet
        Trained on its training part.
    name : str
        One of ``NETWORKS``.
    steps : int
        Training steps of 128 images.
    """

    def __init__(self, images: ImageSet, name: str, steps: int) -> None:
        self._images, self._name, self._steps = images, name, steps
        self._networks: dict[int, torch.nn.Module] = {}

    def __call__(self, seed: int) -> torch.nn.Module:
        """The network of a seed, in evaluation mode."""
        if seed not in self._networks:
            torch.manual_seed(seed)
            network = NETWORKS[self._name](self._images).to(self._images.train[0].device)
            train(network, self._images, seed=seed, steps=self._steps)
            self._networks[seed] = network
        return self._networks[seed]


def parser(description: str, *, seeds: bool = True) -> argparse.ArgumentParser:
    """Arguments that all studies take, the number of seeds only where there are several."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--images", nargs="+", default=["digits"], help="digits, or archives of --data-dir")
    made.add_argument("--data-dir", type=Path, default=os.environ.get("CORESETS_DATA"))
    if seeds:
        made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--steps", type=int, default=1500, help="training steps of 128 images")
    made.add_argument("--device", default="cpu", help="where networks are trained and run")
    made.add_argument("--out", type=Path, required=True)
    return made


def run(arguments: argparse.Namespace, study: Callable[[ImageSet], None]) -> int:
    """Go through the image sets; an archive that is missing, foreign or unfit is an error of one line."""
    directory = None if arguments.data_dir is None else Path(arguments.data_dir)
    for name in arguments.images:
        try:
            images = load_images(name, directory).to(arguments.device)
        except (FileNotFoundError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        try:
            study(images)
        except UnfitImagesError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    return 0
