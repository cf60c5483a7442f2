"""Published defects of synaptic flow and of comparisons with it; see ``test_published_defects.py``, too."""

from __future__ import annotations

import itertools

import pytest
import torch

import nn
from nn.budgets import Share
from nn.edges.flow import Surrogate
from nn.layers import find_layers
from nn.selection import keep_best


def linear(rows: list[list[float]]) -> torch.nn.Linear:
    """A layer in float64 with these weights and no bias."""
    weight = torch.tensor(rows, dtype=torch.float64)
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


def deep(depth: int, width: int, scale: float = 1.0) -> torch.nn.Sequential:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(width, width, bias=False) for _ in range(depth)]
    with torch.no_grad():
        for layer in layers:
            layer.weight.copy_(scale * (0.5 + torch.rand(width, width)))
    return torch.nn.Sequential(*layers)


def flow_in_single(net: torch.nn.Module, width: int) -> list[torch.Tensor]:
    """Scores of the reference: gradient times weight, in the network's own precision."""
    weights = [layer.module.weight for layer in find_layers(net).values()]
    gradients = torch.autograd.grad(net(torch.ones(1, width)).sum(), weights)
    return [(g * w).detach() for g, w in zip(gradients, weights, strict=True)]


def test_scores_in_single_precision_flush_to_zero_and_tie():
    net = deep(30, 4, 1e-3)
    single = torch.cat([score.reshape(-1) for score in flow_in_single(net, 4)])
    assert bool((single == 0.0).all())
    names = list(find_layers(net))
    surrogate = Surrogate(net, names, torch.ones(1, 4, dtype=torch.float64))
    alive = {name: torch.ones(4, 4, dtype=torch.bool) for name in names}
    double = torch.cat([score.reshape(-1) for score in surrogate.flow(alive).scores.values()])
    assert bool((double > 0.0).all())
    assert len(double.unique()) == double.numel()


def test_a_threshold_removes_all_ties_and_a_count_does_not():
    net = torch.nn.Linear(10, 10, bias=False)
    with torch.no_grad():
        net.weight.fill_(0.5)
    scores, count = net.weight.detach().abs().reshape(-1), 30
    threshold = torch.kthvalue(scores, 100 - count).values
    assert int((scores > threshold).sum()) == 0  # as the reference selects
    assert nn.plan(net, nn.Magnitude(), nn.KeepCount(count)).kept == count
    assert nn.plan(net, nn.SynFlow(), nn.KeepCount(count)).kept == count


def test_masks_rebuilt_from_all_scores_bring_weights_back():
    # Signed scores: masked weights have 0 and beat every negative one in the next round.
    scores = torch.tensor([3.0, -1.0, -2.0, 1.0])
    first = torch.zeros(4, dtype=torch.bool).index_fill(0, scores.topk(3).indices, True)
    again = torch.where(first, scores - 2.0, 0.0)  # scores change as the network does
    rebuilt = torch.zeros(4, dtype=torch.bool).index_fill(0, again.topk(2).indices, True)
    assert not bool(first[2])
    assert bool(rebuilt[2])
    # Here masks only shrink, whatever the scores.
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    data = [(torch.randn(20, 6), torch.randint(3, (20,)))]
    earlier = None
    for ratio in (0.8, 0.5, 0.3):
        pruned = nn.prune(net, nn.GraSP(steps=3), nn.KeepRatio(ratio), calibration=data)
        net, masks = pruned.model, {name: layer.keep for name, layer in pruned.plan.layers.items()}
        assert earlier is None or all(not bool((masks[n] & ~earlier[n]).any()) for n in masks)
        earlier = masks


def test_a_scoring_that_raises_leaves_the_signs_alone():
    class Subtracts(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -super().forward(x)

    torch.manual_seed(0)
    net = Subtracts(6, 4)
    before = net.weight.detach().clone()
    assert bool((before < 0.0).any())
    with pytest.raises(ValueError, match="subtracts"):
        nn.prune(net, nn.SynFlow(), nn.KeepRatio(0.5))
    assert torch.equal(net.weight, before)


def test_statistics_of_one_example_are_no_scaling():
    # In training mode normalisation takes the mean of its single example away, and the flow with it.
    norm = torch.nn.BatchNorm1d(4)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4, bias=False), norm)
    with torch.no_grad():
        net[0].weight.copy_(torch.rand(4, 3) + 0.1)
        norm.running_mean.fill_(1e6)  # and in evaluation mode what was learnt, which is larger than the flow
    values = net[0](torch.ones(2, 3))
    assert float(norm.train()(values).sum().detach().abs()) < 1e-3
    assert float(norm.eval()(values).sum().detach()) < 0.0
    for mode in (True, False):
        plan = nn.plan(net.train(mode), nn.SynFlow(), nn.KeepCount(5))
        assert plan.certificates[0].details["flow left"] > 0.0
        assert net.training == mode


def test_equal_steps_collapse_where_equal_ratios_do_not():
    # Removing as many weights each step: the last step takes nearly all that are left.
    widths, steps, kept = (20, 200, 5, 200, 10), 20, 60
    torch.manual_seed(0)
    net = torch.nn.Sequential(*(torch.nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(widths)))
    exponential = nn.plan(net, nn.SynFlow(nn.Exponential(steps)), nn.KeepCount(kept))
    assert exponential.collapsed == ()
    names = list(find_layers(net))
    surrogate = Surrogate(net, names, torch.ones(1, widths[0], dtype=torch.float64))
    masks = {
        name: torch.ones_like(layer.weight, dtype=torch.bool) for name, layer in find_layers(net).items()
    }
    total, cuts = sum(mask.numel() for mask in masks.values()), []
    for step in range(1, steps + 1):
        flow = surrogate.flow(masks)
        count = round(total - (total - kept) * step / steps)
        after = keep_best(flow.scores, Share(tuple(names), count), masks)
        cuts.append(sum(float(flow.scores[n][masks[n] & ~after[n]].sum()) for n in names) / flow.total)
        masks = after
    assert max(cuts) > 1.0  # the certificate of a linear schedule fails, and so does the network
    assert surrogate.flow(masks).total == 0.0
    assert exponential.certificates[0].value < 1.0


def test_a_rule_without_a_least_step_stalls_near_one_weight_a_layer():
    # With one weight a layer left but for one more, that one may carry half of the flow or more.
    net = torch.nn.Sequential(linear([[1.0], [1.0]]), linear([[1.0, 1.0]])).double()
    surrogate = Surrogate(net, ["0", "1"], torch.ones(1, 1, dtype=torch.float64))
    flow = surrogate.flow({"0": torch.ones(2, 1, dtype=torch.bool), "1": torch.ones(1, 2, dtype=torch.bool)})
    assert min(float(score.min()) for score in flow.scores.values()) >= 0.5 * flow.total
    assert nn.plan(net, nn.SynFlow(nn.Adaptive(0.5)), nn.KeepCount(2)).collapsed == ()


class Shortcut(torch.nn.Module):
    """A wide branch beside a shortcut of small weights."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = torch.nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.shortcut = torch.nn.Conv2d(4, 4, 1, bias=False)
        with torch.no_grad():
            self.branch.weight.fill_(1.0)
            self.shortcut.weight.fill_(0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.branch(x)) + self.shortcut(x)


def test_a_branch_collapses_while_the_network_does_not():
    with pytest.warns(nn.PruningWarning, match="keeps no weight of 'shortcut'"):
        pruned = nn.prune(Shortcut(), nn.SynFlow(input_shape=(4, 5, 5)), nn.KeepRatio(0.5))
    assert pruned.plan.collapsed == ("shortcut",)
    assert pruned.plan.certificates[0].details["flow left"] > 0.0


def test_a_single_cut_ranks_layers_by_their_size_alone():
    # Scores of each layer add up to the same total, so that the larger layer has the smaller scores.
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(10, 400, bias=False), torch.nn.Linear(400, 1, bias=False))
    names = list(find_layers(net))
    surrogate = Surrogate(net, names, torch.ones(1, 10, dtype=torch.float64))
    flow = surrogate.flow(
        {n: torch.ones_like(layer.weight, dtype=torch.bool) for n, layer in find_layers(net).items()}
    )
    means = [float(score.mean()) for score in flow.scores.values()]
    assert means[1] / means[0] == pytest.approx(4000 / 400, rel=1e-9)


def test_rounds_of_magnitude_are_no_rounds():
    # Without retraining the scores do not change, so that many rounds are one.
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(20, 20), torch.nn.Linear(20, 20))
    once = nn.prune(net, nn.Magnitude(), nn.KeepRatio(0.1))
    model = net
    for ratio in (0.7, 0.4, 0.2, 0.1):
        model = nn.prune(model, nn.Magnitude(), nn.KeepRatio(ratio)).model
    for name, layer in once.plan.layers.items():
        assert torch.equal(model.get_submodule(name).weight, layer.weight)


def test_steps_do_change_what_is_kept_by_gradients():
    # The published comparison gave iterations to one method only.
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(10, 20), torch.nn.Tanh(), torch.nn.Linear(20, 3))
    data = [(torch.randn(50, 10), torch.randint(3, (50,)))]
    for method in (nn.SNIP, nn.GraSP, nn.Taylor):
        one, many = (
            nn.plan(net, method(steps=steps), nn.KeepRatio(0.1), calibration=data) for steps in (1, 10)
        )
        assert one.kept == many.kept
        assert any(not torch.equal(one.layers[n].keep, many.layers[n].keep) for n in one.layers)
