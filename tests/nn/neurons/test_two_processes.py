"""Two processes with half of the data each decide what one process with all of them does."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed

from nn import KeepRatio, plan
from nn.neurons import (
    PFP,
    ConvexGeometry,
    FilterNorm,
    Fisher,
    GroupOLS,
    ISpaSP,
    MeasuredEllipsoid,
    NormBounded,
    RefitConsumers,
    RowNorm,
    SquaredEffect,
    Subspace,
    TaylorUnits,
    ThiNet,
    TopActivation,
    VarianceOptimal,
)
from nn.units import UnitMethod

# One for each kind of statistic.
METHODS: dict[str, UnitMethod] = {
    "sums": ISpaSP(),
    "sums by unit": TopActivation(),
    "second moments of patches": ISpaSP(RowNorm()),
    "moments of sampled patches": GroupOLS(),
    "moments, original inputs": ThiNet(),
    "inputs of two networks": RefitConsumers(FilterNorm()),
    "largest shares": PFP(),
    "largest norms": NormBounded(),
    "sampled vectors": NormBounded(MeasuredEllipsoid()),
    "sampled directions": ConvexGeometry(Subspace()),
    "variances": VarianceOptimal(),
    "gradients of examples": Fisher(),
    "gradients of batches": TaylorUnits(SquaredEffect()),
}
# So few vectors that each process holds others.
SPARSE: dict[str, UnitMethod] = {
    "few vectors": NormBounded(MeasuredEllipsoid(vectors=5)),
    "few directions": ConvexGeometry(Subspace(rank=3, vectors=5)),
}


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(6, 8, 3, stride=2),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * 4, 20),
        torch.nn.ReLU(),
        torch.nn.Linear(20, 4),
    ).double()


def batches(rank: int, world: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(32, 1, 6, 6, generator=generator, dtype=torch.float64)
    classes = torch.randint(4, (32,), generator=generator)
    every = list(zip(images.split(8), classes.split(8), strict=True))
    return every[rank * 4 // world : (rank + 1) * 4 // world]


def decisions(rank: int, world: int) -> dict[str, torch.Tensor]:
    found = {}
    for name, method in {**METHODS, **SPARSE}.items():
        decided = plan(network(), method, KeepRatio(0.5), calibration=batches(rank, world), rng=0)
        found |= {f"{name}: {group}": own.keep for group, own in decided.groups.items()}
        found |= {f"{name}: {parameter}": value for parameter, value in decided.updates.items()}
    return found


def _work(rank: int, world: int, port: int, directory: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    torch.save(decisions(rank, world), Path(directory) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, torch.Tensor]]:
    directory = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_work, (2, port, str(directory)), nprocs=2)
    return [torch.load(directory / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
def test_all_processes_decide_alike(ranks: list[dict[str, torch.Tensor]]):
    one, other = ranks
    assert one.keys() == other.keys()
    assert not [name for name in one if not torch.equal(one[name], other[name])]


@pytest.mark.slow
def test_two_processes_decide_what_one_does(ranks: list[dict[str, torch.Tensor]]):
    alone = decisions(0, 1)
    for name in METHODS:
        for key in (key for key in alone if key.startswith(f"{name}:")):
            # Sums in another order, and then a solve with a ridge of 1e-4 or more: half the digits are ample.
            torch.testing.assert_close(ranks[0][key], alone[key], rtol=1e-8, atol=1e-8, msg=key)
