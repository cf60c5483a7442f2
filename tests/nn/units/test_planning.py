"""From a budget to a plan that has been tried out; what cannot be done is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import Linear, ReLU, Sequential

import nn
from nn.neurons import Ball, FilterNorm, NormBounded, RandomUnits
from nn.units import UnitDecision, UnitPlan, UnitProblem

VECTORS = torch.rand(6, 8, generator=torch.Generator().manual_seed(0))


class Wired(torch.nn.Module):
    """Layers by name, and a function that runs them."""

    def __init__(self, run: Callable[[Any, torch.Tensor], Any], **layers: Any) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: torch.Tensor) -> Any:
        return self.run(self, x)


def chain() -> Sequential:
    torch.manual_seed(0)
    return Sequential(Linear(8, 6), ReLU(), Linear(6, 5), ReLU(), Linear(5, 2))


def plan(
    network: torch.nn.Module, budget: nn.Budget | None = None, data: Any = None, **more: Any
) -> UnitPlan:
    budget = nn.KeepRatio(0.5) if budget is None else budget
    return nn.plan(network, FilterNorm(), budget, calibration=[VECTORS] if data is None else data, **more)


def test_budget_is_met_exactly():
    for count in range(2, 12):
        assert plan(chain(), nn.KeepCount(count)).kept == count


def test_layer_that_would_vanish_is_refused_by_name():
    with pytest.raises(ValueError, match="'2' would vanish"):
        plan(chain(), nn.KeepCount(1))


def test_budget_that_cannot_be_met_is_refused():
    with pytest.raises(ValueError, match="12"):
        plan(chain(), nn.KeepCount(12))
    with pytest.raises(ValueError, match="whole"):
        plan(chain(), nn.PerLayer({}, rest=nn.Dense()))


def test_named_layer_that_cannot_shrink_is_answered_with_the_reason():
    with pytest.raises(ValueError, match=r"'4' cannot be removed: .*outputs of the network"):
        plan(chain(), nn.PerLayer({"4": nn.KeepCount(1)}))


def test_network_without_units_is_refused_with_all_reasons():
    with pytest.raises(ValueError, match="outputs of the network"):
        plan(Linear(8, 2))
    hidden = Wired(lambda net, x: torch.tensor(net.a(x).tolist()), a=Linear(8, 2))
    with pytest.raises(ValueError, match="a: tracing does not reach it"):
        plan(hidden)


def test_groups_under_a_normalisation_take_part_only_if_named():
    network = Sequential(Linear(8, 6), torch.nn.LayerNorm(6), Linear(6, 2))
    with pytest.raises(ValueError, match="PerLayer"):
        plan(network)
    assert plan(network, nn.PerLayer({"0": nn.KeepCount(4)})).kept == 4


def flipped(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.b(net.a(x).flip(1))


def detached(net: Any, x: torch.Tensor) -> torch.Tensor:
    hidden = net.a(x)
    return net.b(hidden) + net.c(hidden.detach())


def softmax(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.b(net.a(x).softmax(1))


def shifted(net: Any, x: torch.Tensor) -> torch.Tensor:
    hidden = net.a(x)
    return net.b(hidden + hidden.roll(1, 1))


def fixed_heads(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.b(net.a(x).view(len(x), 3, -1).softmax(2).flatten(1))


def constant(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.b(net.a(x) * net.scale)


@pytest.mark.parametrize("run", [flipped, detached, softmax, shifted, fixed_heads, constant])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_trial_catches_what_the_trace_does_not_show_and_names_the_group(run, dtype):
    torch.manual_seed(0)
    network = Wired(run, a=Linear(8, 6), b=Linear(6, 3), c=Linear(6, 3), d=Linear(3, 4), e=Linear(4, 2))
    network.register_buffer("scale", torch.rand(6))
    whole = Wired(
        lambda net, x: net.e(torch.relu(net.d(net.run_first(net, x)))), **dict(network.named_children())
    )
    whole.run_first, whole.scale = run, network.scale.to(dtype)
    with pytest.raises(ValueError, match=r"without the units of 'a'[: ]"):
        plan(whole.to(dtype), nn.KeepCount(4), [VECTORS.to(dtype)])
    assert plan(whole, nn.PerLayer({"a": nn.Dense()}, rest=nn.KeepCount(2)), [VECTORS.to(dtype)]).kept == 2


def test_head_that_starts_at_zero_does_not_hide_a_fault():
    network = Wired(shifted, a=Linear(8, 6), b=Linear(6, 3))
    torch.nn.init.zeros_(network.b.weight)
    with pytest.raises(ValueError, match="computes something else"):
        plan(network)


def test_what_stays_whole_for_a_special_reason_is_noted():
    network = Wired(
        lambda net, x: net.c(torch.relu(net.b(net.lstm(net.a(x))[0]))),
        a=Linear(8, 6), lstm=torch.nn.LSTM(6, 5), b=Linear(5, 6), c=Linear(6, 2),
    )  # fmt: skip
    decided = plan(network, data=[torch.rand(2, 3, 8)])
    assert list(decided.groups) == ["b"]
    assert any("'a' stays whole: 'lstm' is a LSTM" in note for note in decided.notes)
    assert plan(chain()).notes == ()


@pytest.mark.parametrize("inner", [0, 1])
def test_nan_weights_are_refused_by_name(inner: int):
    network = chain()
    with torch.no_grad():
        network[2 * inner].weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match=f"'{2 * inner}.weight' has NaN"):
        plan(network)


def test_nan_inputs_are_refused():
    with pytest.raises(ValueError, match="NaN on the first"):
        plan(chain(), data=[torch.full((2, 8), float("nan"))])


def test_weights_without_values_are_refused_by_name():
    with pytest.raises(ValueError, match=r"'0.weight' has no values"):
        plan(Sequential(torch.nn.LazyLinear(6), ReLU(), Linear(6, 2)))
    with pytest.raises(ValueError, match="meta"):
        plan(Sequential(Linear(8, 6, device="meta"), ReLU(), Linear(6, 2)))


def test_compiled_network_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="prune the module that it was made from"):
        plan(torch.compile(chain(), backend="eager"))


def test_arguments_of_the_wrong_kind_are_refused():
    with pytest.raises(TypeError, match="str"):
        plan("network")
    with pytest.raises(ValueError, match="calibration"):
        nn.plan(chain(), FilterNorm(), nn.KeepRatio(0.5))
    with pytest.raises(TypeError, match="iterable"):
        plan(chain(), data=VECTORS)
    with pytest.raises(TypeError, match="str"):
        plan(chain(), data=["a batch"])
    with pytest.raises(ValueError, match="empty"):
        plan(chain(), data=[])
    with pytest.raises(ValueError, match="rng"):
        nn.plan(chain(), RandomUnits(), nn.KeepRatio(0.5), calibration=[VECTORS])
    with pytest.raises(ValueError, match="no blocks of 4"):
        plan(chain(), blocks={"0": 4})


def test_outputs_and_batches_may_be_mappings():
    class Keyed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = chain()

        def forward(self, *, x: torch.Tensor, scale: torch.Tensor) -> dict[str, Any]:
            return {"logits": self.net(x), "deep": [(self.net(x) * scale,)], "name": "keyed"}

    batch = {"x": VECTORS, "scale": torch.rand(6, 1), "labels": torch.zeros(6)}
    assert plan(Keyed(), data=[batch]).kept == 6


@dataclass(frozen=True)
class Counting:
    """Keeps the first units, and remembers how many examples it was shown."""

    seen: list[int]

    def choose(self, problem: UnitProblem) -> UnitDecision:
        self.seen.append(sum(batch.size for batch in problem.calibration))
        return FilterNorm().choose(problem)


def test_method_sees_all_batches_of_what_can_be_read_once():
    def batches() -> Iterator[torch.Tensor]:
        yield from (VECTORS, VECTORS[:2])

    for data in (batches(), iter([VECTORS, VECTORS[:2]]), [VECTORS, VECTORS[:2]]):
        seen: list[int] = []
        nn.plan(chain(), Counting(seen), nn.KeepRatio(0.5), calibration=data)
        assert seen == [8]


@dataclass(frozen=True)
class Greedy:
    """Keeps more than it was asked to."""

    def choose(self, problem: UnitProblem) -> UnitDecision:
        return UnitDecision(
            {name: torch.ones(size, dtype=torch.bool) for name, size in problem.sizes.items()}
        )


def test_method_that_ignores_the_budget_is_at_fault():
    with pytest.raises(RuntimeError, match=r"Greedy.*was to keep 6"):
        nn.plan(chain(), Greedy(), nn.KeepRatio(0.5), calibration=[VECTORS])


def test_argument_that_is_no_batch_but_as_long_as_one_is_left_whole():
    class Mixing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = Linear(8, 6), Linear(6, 2)

        def forward(self, *, x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x @ table))

    batch = {"x": torch.rand(8, 8), "table": torch.rand(8, 8)}
    assert plan(Mixing(), data=[batch]).kept == 3


@dataclass(frozen=True)
class Doubling:
    """Keeps the first units and doubles what reads them."""

    def choose(self, problem: UnitProblem) -> UnitDecision:
        decision = FilterNorm().choose(problem)
        updates = {
            f"{consumer.name}.weight": consumer.rescaled(2.0 * torch.ones(consumer.units))
            for name in problem.groups
            for consumer in problem.consumers(name).values()
        }
        return UnitDecision(decision.keep, updates)


def test_plan_with_new_weights_is_saved_and_applied(tmp_path: Path):
    network = chain()
    decided = nn.plan(network, Doubling(), nn.KeepRatio(0.5), calibration=[VECTORS])
    decided.save(tmp_path / "plan")
    loaded = UnitPlan.load(tmp_path / "plan")
    assert str(loaded) == str(decided)
    one, other = decided.apply(network), loaded.apply(network)
    assert torch.equal(one(VECTORS), other(VECTORS))
    kept = decided.groups["0"].keep
    rows = decided.groups["2"].keep
    assert torch.equal(one[2].weight, 2.0 * network[2].weight[rows][:, kept])
    with pytest.raises(ValueError, match=r"'2.weight' of shape"):
        decided.apply(Sequential(Linear(8, 7), ReLU(), Linear(7, 5), ReLU(), Linear(5, 2)))


def test_plan_that_changes_nothing_warns():
    decided = plan(chain(), nn.KeepRatio(1.0))
    with pytest.warns(nn.PruningWarning, match="changes nothing"):
        decided.apply(chain())


def test_seed_decides_and_the_global_state_does_not():
    def kept(seed: int) -> list[bool]:
        decided = nn.plan(chain(), RandomUnits(), nn.KeepRatio(0.5), calibration=[VECTORS], rng=seed)
        return [bool(k) for group in decided.groups.values() for k in group.keep]

    one = kept(0)
    torch.manual_seed(5)
    np.random.default_rng(5)
    assert kept(0) == one
    assert any(kept(seed) != one for seed in range(1, 5))


def test_planning_writes_into_no_parameter_of_the_network():
    network = chain()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    shrunk = nn.prune(network, NormBounded(Ball(1.0)), nn.KeepRatio(0.5), calibration=[VECTORS], rng=0)
    with torch.no_grad():
        for parameter in shrunk.model.parameters():  # nor does what comes out share its memory
            parameter.fill_(7.0)
        shrunk.plan.masked(network)[0].weight.fill_(7.0)
        shrunk.plan.updated(network)[2].weight.fill_(7.0)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(bool((value == 7.0).any()) for value in shrunk.plan.updates.values())


def test_what_stays_whole_is_a_copy_and_stays_tied():
    tied = Wired(lambda net, x: net.c(net.b(net.a(x).relu())), a=Linear(8, 6), b=Linear(6, 2), c=Linear(2, 2))
    tied.c.weight = tied.c.extra = torch.nn.Parameter(torch.eye(2))
    smaller = nn.prune(tied, FilterNorm(), nn.PerLayer({"a": nn.KeepCount(3)}), calibration=[VECTORS]).model
    assert smaller.c.weight is smaller.c.extra
    assert smaller.c.weight.data_ptr() != tied.c.weight.data_ptr()
