"""The networks of the studies have the usual sizes, and every part of the library can follow them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import nn
from examples import edge_pruning
from examples.edge_methods import STYLES, methods
from examples.images import load_images
from examples.networks import Residual, resnet20, small_conv_net, vgg16_bn
from nn.certify.graph import in_float64
from nn.layers import find_layers


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_resnet_has_the_published_size_and_twenty_layers_on_its_longest_path():
    network = resnet20()
    # Option A has 269,722; the two shortcuts of option B and their normalisation add 2,752.
    assert parameters(network) == 269_722 + (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)
    shortcuts = [
        m for m in network.modules() if isinstance(m, Residual) and len(list(m.shortcut.modules())) > 1
    ]
    assert len(find_layers(network)) - len(shortcuts) == 20
    assert len(shortcuts) == 2


def test_vgg_has_sixteen_layers_less_the_two_wide_linear_ones():
    network = vgg16_bn()
    convolutions = [3 * 64, 64 * 64, 64 * 128, 128 * 128, 128 * 256, 2 * 256 * 256, 256 * 512, 5 * 512 * 512]
    channels = 2 * 64 + 2 * 128 + 3 * 256 + 6 * 512
    assert parameters(network) == 9 * sum(convolutions) + 2 * channels + 512 * 10 + 10
    assert len(find_layers(network)) == 14


@pytest.mark.parametrize(("make", "size"), [(resnet20, 28), (resnet20, 32), (vgg16_bn, 32)])
def test_deep_networks_are_pruned_bounded_and_exported(make, size):
    torch.manual_seed(0)
    network = make(5, channels=1, width=4).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after training, so that no layer is trivial
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    x = torch.randn(3, 1, size, size)
    pruned = nn.prune(network, nn.Magnitude(), nn.KeepRatio(0.5))
    assert pruned.plan.kept == round(0.5 * pruned.plan.total)
    change = (in_float64(pruned.model)(x.double()) - in_float64(network)(x.double())).abs()
    bound = nn.additive(network, pruned.model, x)
    assert bool((change <= bound * (1.0 + 1e-9)).all())
    least, most = nn.interval(network, pruned.model, x.double(), x.double())
    assert bool((change <= torch.maximum(-least, most) * (1.0 + 1e-9)).all())
    assert torch.equal(pruned.finalize()(x), pruned.model(x))


def archive(folder: Path, size: int) -> Path:
    rng = np.random.default_rng(0)
    np.savez(
        folder / "colours.npz",
        x_train=rng.integers(0, 256, (80, size, size, 3), dtype=np.uint8),
        y_train=rng.integers(0, 10, 80),
        x_test=rng.integers(0, 256, (12, size, size, 3), dtype=np.uint8),
        y_test=rng.integers(0, 10, 12),
    )
    return folder


def study(folder: Path, network: str) -> int:
    arguments = ["--images", "colours", "--data-dir", str(folder), "--networks", network, "--steps", "1"]
    chosen = ["--methods", "magnitude, global", "SNIP", "--ratios", "0.5", "--seeds", "1"]
    return edge_pruning.main([*arguments, *chosen, "--calibration", "8", "--out", str(folder / "out")])


@pytest.mark.slow
def test_study_takes_the_residual_network_by_name(tmp_path: Path):
    pytest.importorskip("matplotlib")
    assert study(archive(tmp_path, 32), "resnet20") == 0
    assert "| SNIP |" in (tmp_path / "out" / "table.md").read_text()


def test_images_that_do_not_fit_are_a_one_line_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert study(archive(tmp_path, 28), "vgg16-bn") == 2
    assert capsys.readouterr().err == (
        "error: images of 'colours' have shape (3, 28, 28); vgg16-bn takes 32 by 32 pixels\n"
    )


def test_searches_are_left_out_where_they_would_take_hours():
    images = load_images("digits", None)
    assert set(methods(images, small_conv_net(images))) == set(STYLES)
    assert set(STYLES) - set(methods(images, vgg16_bn())) == {"OLS forward", "OBS backward", "best path"}


@pytest.mark.parametrize("size", [8, 28, 32])
def test_small_conv_net_classifies_at_most_four_by_four_pixels(tmp_path: Path, size: int):
    images = load_images("colours", archive(tmp_path, size))
    network = small_conv_net(images)
    assert network(images.test[0]).shape == (12, images.classes)
    assert list(find_layers(network).values())[-1].shape[2] <= 64 * 16


def test_cutting_an_image_set_leaves_training_alone():
    images = load_images("digits", None)
    cut = images.first(calibration=10, test=20)
    assert [len(x) for x, _ in (cut.calibration, cut.test)] == [10, 20]
    assert cut.train is images.train
    assert images.first().calibration[0].equal(images.calibration[0])
