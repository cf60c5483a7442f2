"""The study of certificates runs from one command, and its figures agree with independent ones."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from scipy.stats import beta, binom

import nn
from examples import certificates, coverage, retraining
from examples.certificate_bounds import CERTIFICATES, Network, _side_errors, rows, share_factor
from examples.images import ImageSet, load_images
from examples.networks import accuracy
from examples.trained import Trained, batches
from nn.certify import Conformal, conformal_factor
from nn.layers import find_layers
from nn.sensitivities import collect_sensitivities

DETERMINISTIC = {"B1, layers", "B3, every input", "additive", "interval, 0.01", "interval, 0.1"}


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return load_images("digits", None)


@pytest.fixture(scope="module")
def network(images: ImageSet) -> torch.nn.Module:
    return Trained(images, "lenet-300-100", 60)(0)


@pytest.fixture
def few_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "_DETECT", {0.05: 0.5, 0.1: 0.6})


@pytest.mark.parametrize("method", [nn.Magnitude(), nn.SiPP(), nn.CoreNet(), nn.OLSForward()])
def test_bounds_that_are_certain_are_never_exceeded(images: ImageSet, network: torch.nn.Module, method):
    base = Network.of(network, images)
    pruned = nn.prune(network, method, nn.KeepRatio(0.3), calibration=batches(images.calibration), rng=0)
    found = {row.certificate: row for row in rows(base, pruned)}
    assert set(found) <= set(CERTIFICATES)
    certain = [row for name, row in found.items() if name in DETERMINISTIC]
    assert len(certain) == (5 if isinstance(method, nn.OLSForward) else 4)
    # Both sides are computed in double precision.
    assert all(row.observed <= row.bound * (1.0 + 1e-9) for row in certain)
    if "a priori, worst side" in found:
        assert found["a priori, worst side"].bound >= found["a priori, median side"].bound
        assert found["a priori, network"].vacuous


def test_a_network_that_was_not_pruned_has_no_error_anywhere(images: ImageSet, network: torch.nn.Module):
    base = Network.of(network, images)
    with pytest.warns(nn.PruningWarning):
        same = nn.prune(network, nn.Magnitude(), nn.KeepRatio(1.0))
    found = {row.certificate: row for row in rows(base, same)}
    for name in ("K-free, worst side", "B3, every input", "additive"):
        assert (found[name].bound, found[name].observed) == (0.0, 0.0)
    assert found["held-out, class"].observed == 0.0


def test_sides_are_measured_as_sums_of_their_terms(images: ImageSet, network: torch.nn.Module):
    """The worst side of the first layer, once more, term by term for one image."""
    pruned = nn.prune(network, nn.Magnitude(), nn.KeepRatio(0.5))
    layer, plan = find_layers(network)["1"], pruned.plan.layers["1"]
    x = images.test[0][0].reshape(-1).double().numpy()
    old, new = layer.weight.double().numpy(), plan.weight.double().numpy()
    worst = np.zeros((2, len(old)))
    for side, weight_sign in enumerate((1.0, -1.0)):
        for input_sign in (1.0, -1.0):
            for i in range(len(old)):
                own = [j for j in range(len(x)) if old[i, j] * weight_sign > 0 and x[j] * input_sign > 0]
                total = math.fsum(abs(old[i, j] * x[j]) for j in own)
                kept = math.fsum(abs(new[i, j] * x[j]) for j in own)
                if total > 1e-4:
                    worst[side, i] = max(worst[side, i], abs(kept - total) / total)
    found = _side_errors(Network.of(network, images), pruned, "1")[0].reshape(2, -1)
    assert np.allclose(found, worst, rtol=1e-9, atol=1e-12)


def test_factors_of_the_repetitions_are_those_of_the_library(images: ImageSet, network: torch.nn.Module):
    ratios = coverage.Ratios.of(network, images)
    found = collect_sensitivities(network, find_layers(network), batches(images.calibration))
    rng = np.random.default_rng(0)
    for confidence in (None, 0.95):
        chosen = rng.integers(len(ratios.pool), size=60)
        fresh = images.test[0][torch.from_numpy(chosen)]
        own = conformal_factor(network, found, [fresh], Conformal(0.1, confidence))
        # Single precision, in blocks of another shape.
        assert ratios.factor(chosen, confidence) == pytest.approx(own.factor, rel=1e-4)
    assert share_factor(network, images, None).examples == len(images.certification[1])


@pytest.mark.usefixtures("few_repetitions")
def test_theory_beside_the_repetitions_is_that_of_order_statistics_and_of_the_binomial(
    images: ImageSet, network: torch.nn.Module
):
    ratios = coverage.Ratios.of(network, images)
    first = coverage.factors_over_all(ratios, np.random.default_rng(0), 25)
    assert first["theory"] == pytest.approx(1.0 - math.ceil(26 * 0.9) / 26)
    second = coverage.factors_given(ratios, np.random.default_rng(0), 40)
    # The first rank with Pr[Bin(40, 0.9) <= k - 1] >= 0.95.
    k = next(k for k in range(1, 41) if binom.cdf(k - 1, 40, 0.9) >= 0.95)
    assert second["theory"] == pytest.approx(1.0 - binom.cdf(k - 1, 40, 0.9))
    for record, n, rank in ((first, 25, math.ceil(26 * 0.9)), (second, 40, k)):
        # Ties and the steps of a pool can only raise the coverage.
        shares, chances = ratios.law(n, rank)
        assert chances.sum() == pytest.approx(1.0)
        assert record["pool"] <= record["theory"] + 1e-12
        drawn = np.random.default_rng(1).integers(len(ratios.pool), size=(2000, n))
        covered = [1.0 - ratios.beyond(float(x)) for x in np.sort(ratios.pool[drawn], axis=1)[:, rank - 1]]
        # Four standard errors of a mean over 2,000 draws.
        assert abs(np.mean(covered) - shares @ chances) < 4.0 * np.std(covered) / math.sqrt(2000)
    pruned = nn.prune(network, nn.Magnitude(nn.Uniform()), nn.KeepRatio(0.1))
    for record in coverage.held_out_limits(network, pruned.model, images, np.random.default_rng(0), 50):
        short = [k for k in range(50) if beta.ppf(0.95, k + 1, 50 - k) < record["rate"]]
        assert record["theory"] == pytest.approx(sum(binom.pmf(k, 50, record["rate"]) for k in short))
        assert record["theory"] <= 0.05
        assert record["trials"] < 100


@pytest.mark.slow
@pytest.mark.usefixtures("few_repetitions")
def test_study_writes_records_tables_and_plot_and_does_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(certificates, "LENGTHS", (0.05,))
    monkeypatch.setattr(certificates, "METHODS", ("magnitude, global", "SiPP, randomised", "best path"))
    arguments = ["--steps", "40", "--out", str(tmp_path)]
    assert certificates.main(arguments) == 0
    text = (tmp_path / "table.md").read_text()
    for name in certificates.SECTIONS:
        assert text.count(f"<!-- {name} -->") == text.count(f"<!-- end of {name} -->") == 1
    (record,) = json.loads((tmp_path / "records.json").read_text())
    assert {r["certificate"] for r in record["bounds"]} == set(CERTIFICATES)
    assert not any(r["refuted"] for r in record["coverage"])
    assert (tmp_path / "bounds.png").stat().st_size > 10_000
    before = (tmp_path / "records.json").read_bytes()
    assert certificates.main(arguments) == 0
    assert (tmp_path / "records.json").read_bytes() == before


@pytest.mark.slow
def test_retraining_keeps_the_masks_and_resumes(tmp_path: Path):
    arguments = ["--steps", "40", "--retraining-steps", "20", "--seeds", "1", "--ratios", "0.1"]
    assert retraining.main([*arguments, "--out", str(tmp_path)]) == 0
    records = json.loads((tmp_path / "records.json").read_text())
    assert [record["method"] for record in records] == list(retraining.METHODS)
    # Training may set a kept weight to zero, but none that was dropped to anything else.
    assert all(record["kept"] <= round(0.1 * (64 * 300 + 300 * 100 + 100 * 10)) for record in records)
    (tmp_path / "records.json").write_text(json.dumps(records[:-1]))
    assert retraining.main([*arguments, "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "records.json").read_text()) == records
    assert "→" in (tmp_path / "table.md").read_text()


def test_retraining_starts_from_the_pruned_weights(images: ImageSet, network: torch.nn.Module):
    pruned = nn.prune(network, nn.Magnitude(), nn.KeepRatio(0.3))
    before, after = retraining.before_and_after(pruned, images, seed=0, steps=30)
    untouched = nn.prune(network, nn.Magnitude(), nn.KeepRatio(0.3))
    assert before == accuracy(untouched.model, images.test)
    assert after == accuracy(pruned.model, images.test)
    for name, layer in find_layers(pruned.model).items():
        assert not bool((layer.weight[~pruned.plan.layers[name].keep] != 0).any())
        assert not torch.equal(layer.weight, find_layers(untouched.model)[name].weight)
