"""Image sets as tensors: the digits that scikit-learn bundles, or an archive of a data directory."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

__all__ = ["ImageSet", "load_images"]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images and labels in four disjoint parts.

    Parameters
    ----------
    name : str
        Shown in tables.
    train, calibration, certification, test : tuple of Tensor
        Images (n, channels, height, width) of about unit variance, and labels (n,).
    """

    name: str
    train: tuple[torch.Tensor, torch.Tensor]
    calibration: tuple[torch.Tensor, torch.Tensor]
    certification: tuple[torch.Tensor, torch.Tensor]
    test: tuple[torch.Tensor, torch.Tensor]

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height, width."""
        return tuple(self.train[0].shape[1:])

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.train[1].max()) + 1

    def to(self, device: str) -> ImageSet:
        """The same on another device."""
        parts = (self.train, self.calibration, self.certification, self.test)
        return ImageSet(self.name, *((x.to(device), y.to(device)) for x, y in parts))

    def first(self, *, calibration: int | None = None, test: int | None = None) -> ImageSet:
        """With at most so many images to calibrate on and to test on; they are in no particular order."""
        cut = {"calibration": calibration, "test": test}
        return replace(self, **{part: _cut(getattr(self, part), n) for part, n in cut.items()})


def _cut(part: tuple[torch.Tensor, torch.Tensor], n: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    return part[0][:n], part[1][:n]


def load_images(name: str, data_dir: Path | None) -> ImageSet:
    """Load a set by name.

    Parameters
    ----------
    name : str
        ``"digits"``, or the name of an ``.npz`` archive with x_train, y_train, x_test, y_test.
    data_dir : Path or None
        Where the archives are.

    Raises
    ------
    FileNotFoundError
        If there is no such archive.
    ValueError
        If the archive lacks an array.
    """
    if name == "digits":
        bundled = load_digits()
        x, x_test, y, y_test = train_test_split(
            bundled.images, bundled.target, test_size=360, random_state=0, stratify=bundled.target
        )
        return _split(name, x[..., None], y, x_test[..., None], y_test)
    path = (data_dir or Path()) / f"{name}.npz"
    if data_dir is None or not path.is_file():
        raise FileNotFoundError(
            f"no archive {path}; pass --data-dir, or use the set 'digits', which is bundled"
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = [archive[key] for key in ("x_train", "y_train", "x_test", "y_test")]
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no archive of x_train, y_train, x_test, y_test: {error}") from error
    x, y, x_test, y_test = arrays
    if x.ndim == 3:
        x, x_test = x[..., None], x_test[..., None]
    return _split(name, x, y, x_test, y_test)


def _split(name: str, x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> ImageSet:
    """Hold back calibration and certification parts, shuffled once and for all."""
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], y[order]
    held = min(1024, len(x) // 5)
    x_train = x[2 * held :].astype(np.float32)
    mean, spread = float(x_train.mean()), float(x_train.std())

    def part(images: np.ndarray, labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        scaled = (images.astype(np.float32) - mean) / spread
        tensor = torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))
        return tensor, torch.from_numpy(labels.astype(np.int64))

    return ImageSet(
        name,
        part(x[2 * held :], y[2 * held :]),
        part(x[:held], y[:held]),
        part(x[held : 2 * held], y[held : 2 * held]),
        part(x_test, y_test),
    )
