"""The study runs from one command, goes on where it stopped, and compares every method of the package."""

from __future__ import annotations

import json
from inspect import signature
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

import torch

import nn.neurons
from examples import unit_pruning
from examples.images import load_images
from examples.networks import small_conv_net
from examples.unit_methods import METHODS, PROVABLE, STYLES
from nn.units import UnitMethod

FEW = ("l2 norm", "greedy", "l2 norm, refitted")


def run(out: Path, *methods: str) -> int:
    return unit_pruning.main(
        [
            *("--networks", "lenet-300-100", "--seeds", "2", "--steps", "20", "--finetune", "2"),
            *("--ratios", "0.25", "--calibration", "64", "--test", "64", "--out", str(out)),
            *("--methods", *methods),
        ]
    )


def record(method: str, seed: int, validation: float, accuracy: float) -> unit_pruning.Record:
    return {
        "images": "mnist",
        "network": "lenet-300-100",
        "keep_ratio": 0.1,
        "original_accuracy": 0.9,
        "method": method,
        "seed": seed,
        "validation": validation,
        "accuracy": accuracy,
    }


def test_every_method_of_the_package_takes_part():
    def methods(value: object) -> set[str]:
        inner = getattr(value, "method", None)
        return {type(value).__name__} | (methods(inner) if inner is not None else set())

    exported = {
        name
        for name in nn.neurons.__all__
        if isinstance(value := getattr(nn.neurons, name), type)
        and issubclass(value, UnitMethod)
        and value is not UnitMethod
        and list(signature(value.choose).parameters) == ["self", "problem"]
    }
    assert exported
    assert exported == set().union(*map(methods, METHODS.values()))


def test_what_is_drawn_or_called_provable_is_a_method_of_the_study():
    assert set(STYLES) <= set(METHODS)
    assert set(PROVABLE) <= set(METHODS)


def test_study_writes_records_tables_and_plot_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(tmp_path, *FEW) == 0
    records = json.loads((tmp_path / "records.json").read_text())
    assert {(r["method"], r["seed"]) for r in records} == {(m, s) for m in FEW for s in (0, 1)}
    assert {r["kept"] for r in records} == {100}
    rows = (tmp_path / "table.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in rows if line.startswith("| l2 norm")] == [
        "| l2 norm",
        "| l2 norm, refitted",
    ]
    assert (tmp_path / "digits-lenet-300-100.png").stat().st_size > 10_000
    # As if it had been interrupted: what is there stays, bit for bit, and the rest is done again.
    (tmp_path / "records.json").write_text(json.dumps(records[:-1]))
    assert run(tmp_path, *FEW) == 0
    again = json.loads((tmp_path / "records.json").read_text())
    assert again[:-1] == records[:-1]
    for key in ("accuracy", "finetuned_accuracy", "worst_layer_error"):
        assert again[-1][key] == records[-1][key]
    assert "greedy" in capsys.readouterr().out


def test_a_method_that_refuses_a_network_says_why_in_its_record():
    images = load_images("digits", None).first(calibration=32, test=32)
    network = small_conv_net(images).eval()
    found = unit_pruning.one_record(network, "l2 norm", 0.001, 0, images, 1)
    assert set(found) == {"refused"}
    assert "vanish" in found["refused"]
    cell = {"images": "digits", "network": "small-conv-net", "seed": 0, "keep_ratio": 0.001}
    row = {**cell, "method": "l2 norm", "original_accuracy": 0.9, "finetune": 1, **found}
    assert "| l2 norm | refused |" in unit_pruning.table([row])


def test_layer_errors_are_those_of_the_layers_that_read_fewer_units():
    """Against the definition, on the original network's activations."""
    images = load_images("digits", None).first(calibration=64, test=64)
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 20), torch.nn.ReLU(), torch.nn.Linear(20, 10)
    ).eval()
    shrunk = unit_pruning.prune(network, "l2 norm", 0.5, images, 0)
    (group,) = shrunk.plan.groups.values()
    with torch.no_grad():
        inputs = network[:3](images.test[0])
        lost = inputs[:, ~group.keep] @ network[3].weight[:, ~group.keep].T
        expected = float(lost.norm() / (inputs @ network[3].weight.T).norm())
    found = unit_pruning.one_record(network, "l2 norm", 0.5, 0, images, 1)
    # Sums of 20 products in single precision.
    assert found["worst_layer_error"] == pytest.approx(expected, rel=1e-5)


def test_only_provable_methods_are_chosen_and_their_loss_is_that_on_test_images():
    records = [
        *(record("l2 norm", seed, 0.99, 0.5) for seed in (0, 1)),
        *(record("random, refitted", seed, 0.99, 0.9) for seed in (0, 1)),
        *(record("greedy", seed, 0.5, accuracy) for seed, accuracy in ((0, 0.8), (1, 0.7))),
        *(record("PFP", seed, 0.4, 0.88) for seed in (0, 1)),
    ]
    # Losses of 10 and 20 points: mean 15, deviation 5 sqrt(2), and 12.706 of it over sqrt(2).
    row = "| 10% | 2 | greedy (2) | 15.00 ± 63.53 | 40.00 ± 0.00 | 0.38 (0.25 to 0.50) |"
    assert row in unit_pruning.chosen(records)
    assert not unit_pruning.chosen(records[::2])  # one seed has no interval
