"""The command ``coresets``, through its functions and as a process that is killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.svm import LinearSVC

pytest.importorskip("click")
pytest.importorskip("rich")
from click.testing import CliRunner, Result

from coresets import Accuracy, LeastSquares, SensitivityReducer, WeightedSet
from coresets.command_line import cli as module
from coresets.command_line import reducing
from coresets.command_line.cli import cli
from coresets.command_line.models import load_model
from coresets.command_line.tasks import TASKS
from coresets.files import open_table
from coresets.guarantees import MatrixChernoff, SubspaceClass
from coresets.svm import LabelledSet, LinearModel, SVMObjective, svm_certificate

N = 30_000
SMALL = 1 / 4  # MiB, less than the rows take


def columns() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    y = rng.choice([-1, 1], N, p=[0.9, 0.1])
    X = rng.standard_normal((N, 4)) + (y > 0)[:, None]
    return {"X": X, "y": y, "t": X.sum(axis=1) + rng.standard_normal(N), "m": rng.uniform(0.5, 2.0, N)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("command") / "data.npz"
    np.savez(path, **columns())
    return path


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def done(*arguments: Any) -> dict[str, Any]:
    """The document that a successful call prints."""
    found = call(*arguments, "--json")
    assert found.exit_code == 0, found.output
    assert not found.stderr
    return json.loads(found.stdout)


SVM = ("--task", "svm", "--label", "y", "--columns", "X", "--C", 0.01)
SQUARES = ("--task", "least-squares", "--label", "t", "--columns", "X")


class TestReduce:
    def test_the_output_holds_the_rows_of_the_reducer_and_their_weights(self, data: Path, tmp_path: Path):
        out = tmp_path / "kept.npz"
        record = done("reduce", data, *SQUARES, "--size", 300, "--out", out, "--seed", 3)
        with np.load(out) as kept:
            assert set(kept) == {"X", "y", "t", "m", "weight"}
            assert len(kept["weight"]) == record["kept"]
            whole = columns()
            places = {row.tobytes(): i for i, row in enumerate(whole["X"])}
            rows = [places[row.tobytes()] for row in kept["X"]]
            assert np.array_equal(whole["t"][rows], kept["t"])
            assert kept["weight"].sum() == pytest.approx(record["kept_weight"])
        assert record["rows"] == N
        assert record["columns"] == 4
        (evidence,) = [one for one in record["certificates"] if one["name"] == "subspace embedding"]
        assert 0.0 < evidence["value"] < 1.0

    def test_training_on_it_with_the_same_price_is_nearly_optimal(self, data: Path, tmp_path: Path):
        out = tmp_path / "kept.npz"
        done("reduce", data, *SVM, "--size", 2000, "--out", out)
        with np.load(out) as kept:
            machine = LinearSVC(loss="hinge", C=0.01, max_iter=100_000, random_state=0)
            machine.fit(kept["X"], kept["y"], sample_weight=kept["weight"])
        whole = columns()
        found = svm_certificate(
            LabelledSet(whole["X"], whole["y"]),
            LinearModel(machine.coef_, machine.intercept_),
            SVMObjective(0.01),
        )
        assert found.gap < 0.05

    @pytest.mark.parametrize("task", sorted(TASKS))
    def test_a_stream_keeps_as_many_rows_and_about_the_weight(self, task: str, data: Path, tmp_path: Path):
        label = {"NONE": (), "CLASSES": ("--label", "y")}.get(TASKS[task].label.name, ("--label", "t"))
        arguments = ("--task", task, *label, "--columns", "X", "--size", 1000, "--memory", SMALL)
        record = done("reduce", data, *arguments, "--out", tmp_path / "kept.npz")
        assert record["streamed"] is True
        assert record["rows"] == N
        assert record["total_weight"] == N
        assert 800 <= record["kept"] <= 1200
        assert abs(record["kept_weight"] / N - 1.0) < 0.5

    def test_an_accuracy_is_kept_in_memory_and_in_a_stream(self, data: Path, tmp_path: Path):
        out = tmp_path / "kept.npz"
        for memory in (512, SMALL):
            arguments = (*SQUARES, "--accuracy", 0.5, "--memory", memory, "--out", out)
            record = done("reduce", data, *arguments)
            assert record["epsilon"] <= 0.5
            assert record["streamed"] is (memory == SMALL)
            found = done("certify", data, *SQUARES, "--coreset", out)
            assert found["value"] <= record["epsilon"]

    def test_masses_are_read_and_replaced_by_weights(self, data: Path, tmp_path: Path):
        out = tmp_path / "kept.npz"
        record = done(
            "reduce", data, *SVM, "--weight", "m", "--weight-name", "m", "--size", 500, "--out", out
        )
        assert record["total_weight"] == pytest.approx(columns()["m"].sum())
        assert open_table(out).names == ("X", "y", "t", "m")
        found = done("certify", data, *SVM, "--weight", "m", "--coreset", out, "--weight-name", "m")
        assert found["value"] < 0.2

    @pytest.mark.parametrize("memory", [512, SMALL], ids=["whole", "stream"])
    def test_a_seed_gives_the_same_file_and_another_one_another(
        self, memory: float, data: Path, tmp_path: Path
    ):
        files = []
        for number, seed in enumerate((1, 1, 2)):
            out = tmp_path / f"kept{number}.npz"
            done("reduce", data, *SVM, "--size", 100, "--seed", seed, "--memory", memory, "--out", out)
            with np.load(out) as kept:
                files.append(kept["X"].tobytes() + kept["weight"].tobytes())
        assert files[0] == files[1] != files[2]

    @pytest.mark.parametrize("suffix", ["csv", "parquet"])
    def test_other_formats_are_written_and_read(self, suffix: str, data: Path, tmp_path: Path):
        pytest.importorskip("pyarrow")
        first, second = tmp_path / f"first.{suffix}", tmp_path / f"second.{suffix}"
        done("reduce", data, *SVM, "--size", 5000, "--out", first)
        names = "X_0,X_1,X_2,X_3"
        arguments = ("--task", "svm", "--label", "y", "--columns", names, "--C", 0.01, "--weight", "weight")
        for memory in (512, 0.01):
            record = done(
                "reduce",
                first,
                *arguments,
                "--weight-name",
                "weight",
                "--size",
                500,
                "--memory",
                memory,
                "--out",
                second,
            )
            assert record["rows"] == open_table_rows(first)
        assert open_table(second).names == ("X_0", "X_1", "X_2", "X_3", "y", "t", "m", "weight")

    def test_people_are_told_what_was_kept_and_promised(self, data: Path, tmp_path: Path):
        found = call("reduce", data, *SQUARES, "--accuracy", 0.5, "--out", tmp_path / "kept.npz")
        assert found.exit_code == 0
        assert "within 0.5, but for probability 0.05" in found.stdout
        found = call("reduce", data, *SVM, "--size", 50, "--out", tmp_path / "kept.npz")
        assert "the theorem says nothing at this size" in found.stdout


def open_table_rows(path: Path) -> int:
    return len(open_table(path).take(np.arange(N)).to_arrays()["weight"])


class TestMisuse:
    """Exit code 2, before any work, and no file."""

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((*SVM,), "exactly one of --size and --accuracy"),
            ((*SVM, "--size", 5, "--accuracy", 0.1), "exactly one of --size and --accuracy"),
            (("--task", "svm", "--size", 5), "needs --label"),
            (("--task", "nothing", "--size", 5), "nothing"),
            ((*SVM, "--size", 0), "size"),
            ((*SVM, "--accuracy", 2), "accuracy"),
            ((*SVM, "--size", 5, "--weight-name", "m"), "'m' already"),
            ((*SVM, "--size", 5, "--columns", ","), "no column"),
        ],
        ids=str,
    )
    def test_of_reduce(self, arguments: tuple[Any, ...], message: str, data: Path, tmp_path: Path):
        found = call("reduce", data, *arguments, "--out", tmp_path / "kept.npz")
        assert found.exit_code == 2
        assert message in found.stderr
        assert not list(tmp_path.iterdir())

    def test_of_files(self, data: Path, tmp_path: Path):
        for out in (data, tmp_path / "no" / "kept.npz", tmp_path / "kept.txt", tmp_path):
            assert call("reduce", data, *SVM, "--size", 5, "--out", out).exit_code == 2
        assert (
            call("reduce", tmp_path / "no.npz", *SVM, "--size", 5, "--out", tmp_path / "a.npz").exit_code == 2
        )

    def test_of_certify_and_size(self, data: Path):
        assert "exactly one of --model" in call("certify", data, *SVM).stderr
        assert "--rows and --dimension" in call("size", "--task", "l1").stderr
        found = call("size", data, *SQUARES, "--rows", 5)
        assert found.exit_code == 2
        assert "read from DATA" in found.stderr


class TestFailures:
    """Exit code 1, one line, no traceback, and no file."""

    def failed(self, *arguments: Any) -> str:
        found = call(*arguments)
        assert found.exit_code == 1
        assert found.stderr.count("\n") == 1
        assert found.stderr.startswith("Error: ")
        assert not found.stdout
        return found.stderr

    def test_of_data(self, tmp_path: Path):
        content = columns()
        content["X"][5, 2] = np.nan
        np.savez(tmp_path / "nan.npz", **content)
        np.savez(tmp_path / "one.npz", X=np.eye(5), y=np.ones(5))
        np.savez(tmp_path / "text.npz", X=np.eye(5), t=np.array(list("abcde")))
        (tmp_path / "no.npz").write_bytes(b"nothing")
        out, size = ("--out", tmp_path / "kept.npz"), ("--size", 3)
        assert "row 5" in self.failed("reduce", tmp_path / "nan.npz", *SVM, *size, *out)
        assert "two classes" in self.failed("reduce", tmp_path / "one.npz", *SVM, *size, *out)
        assert "no column" in self.failed("reduce", tmp_path / "one.npz", *SQUARES, *size, *out)
        assert "needs numbers" in self.failed("reduce", tmp_path / "text.npz", *SQUARES, *size, *out)
        assert "no NPZ file" in self.failed("reduce", tmp_path / "no.npz", *SVM, *size, *out)
        assert not (tmp_path / "kept.npz").exists()

    def test_of_assumptions(self, data: Path, tmp_path: Path):
        uniform = ("--task", "uniform", "--columns", "X", "--accuracy", 0.1, "--out", tmp_path / "kept.npz")
        assert "no theorem promises" in self.failed("reduce", data, *uniform)
        assert "--total" in self.failed("size", "--task", "svm", "--rows", 10, "--dimension", 2)
        assert "no theorem" in self.failed("size", "--task", "uniform", "--rows", 10, "--dimension", 2)
        assert not list(tmp_path.iterdir())

    def test_of_memory(self, data: Path):
        assert "raise --memory" in self.failed("size", data, *SVM, "--memory", SMALL)

    def test_one_class_is_found_in_a_stream_too(self, tmp_path: Path):
        rng = np.random.default_rng(0)
        np.savez(tmp_path / "one.npz", X=rng.standard_normal((40_000, 4)), y=np.ones(40_000))
        arguments = (*SVM, "--size", 100, "--memory", SMALL, "--out", tmp_path / "kept.npz")
        self.failed("reduce", tmp_path / "one.npz", *arguments)
        assert not (tmp_path / "kept.npz").exists()

    def test_a_missing_extra_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        (tmp_path / "data.csv").write_text("a,y\n1,2\n")
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        arguments = ("--task", "l1", "--label", "y", "--size", 1, "--out", tmp_path / "kept.csv")
        assert "coresets[files]" in self.failed("reduce", tmp_path / "data.csv", *arguments)


class TestCertify:
    @pytest.mark.parametrize("suffix", ["json", "npz"])
    def test_a_model_is_certified_as_the_library_does(self, suffix: str, data: Path, tmp_path: Path):
        path = tmp_path / f"model.{suffix}"
        coefficients, intercept = [1.0, 0.5, 1.0, 0.5], -2.0
        if suffix == "json":
            path.write_text(json.dumps({"coef": coefficients, "intercept": intercept}))
        else:
            np.savez(path, coef_=np.array([coefficients]), intercept_=np.array([intercept]))
        found = done("certify", data, *SVM, "--model", path)
        whole = columns()
        expected = svm_certificate(
            LabelledSet(whole["X"], whole["y"]), LinearModel(coefficients, intercept), SVMObjective(0.01)
        )
        assert found["value"] == expected.gap
        assert found["details"]["primal"] == expected.primal

    def test_a_coreset_of_ridge_regression_has_the_error_that_the_reducer_found(
        self, data: Path, tmp_path: Path
    ):
        ridge = ("--task", "ridge", "--label", "t", "--columns", "X", "--penalty", 500.0)
        out = tmp_path / "kept.npz"
        record = done("reduce", data, *ridge, "--size", 200, "--out", out)
        (inside,) = [one for one in record["certificates"] if one["name"] == "penalised embedding"]
        found = done("certify", data, *ridge, "--coreset", out)
        # Both are eigenvalues near 1 of six columns, by two orders of summing 30,000 rows.
        assert found["value"] == pytest.approx(inside["value"], abs=N * np.finfo(float).eps)

    def test_centres_and_models_of_other_tasks_are_certified(self, data: Path, tmp_path: Path):
        out = tmp_path / "kept.npz"
        centres = ("--task", "k-means", "--columns", "X", "--clusters", 2)
        done("reduce", data, *centres, "--size", 1000, "--out", out)
        found = done("certify", data, *centres, "--coreset", out)
        assert found["value"] >= found["details"]["lower_bound"] > 0.0
        logistic = ("--task", "logistic", "--label", "y", "--columns", "X", "--C", 0.01)
        done("reduce", data, *logistic, "--size", 1000, "--out", out)
        assert done("certify", data, *logistic, "--coreset", out)["value"] < 0.1

    def test_what_is_no_model_is_refused(self, data: Path, tmp_path: Path):
        path = tmp_path / "model.json"
        for text, message in (
            ("nonsense", "no linear model"),
            ("{}", "no coefficients"),
            ("[1]", "no coefficients"),
            ('{"w": ["a"]}', "no linear model"),
            ('{"w": [1, 2, 3]}', "3 coefficients"),
        ):
            path.write_text(text)
            found = call("certify", data, *SVM, "--model", path)
            assert found.exit_code == 1, text
            assert message in found.stderr
        with pytest.raises(ValueError, match="neither"):
            load_model(tmp_path / "model.pkl")

    def test_a_task_without_a_certificate_says_so(self, data: Path, tmp_path: Path):
        (tmp_path / "model.json").write_text('{"w": [1, 2, 3, 4]}')
        l1 = ("--task", "l1", "--label", "t", "--columns", "X")
        found = call("certify", data, *l1, "--model", tmp_path / "model.json")
        assert found.exit_code == 1
        assert "no certificate for a model of l1" in found.stderr


class TestSize:
    def test_the_sizes_are_those_of_the_theorem(self):
        found = done("size", "--task", "least-squares", "--rows", 10**6, "--dimension", 20, "--accuracy", 0.1)
        expected = MatrixChernoff().size(SubspaceClass(22.0, 22), Accuracy(0.1, 0.05))
        assert found["sizes"] == [{"epsilon": 0.1, "size": expected, "vacuous": False}]
        assert found["guarantee"] == "MC"

    def test_sizes_of_all_rows_and_more_are_called_vacuous(self):
        found = done("size", "--task", "l1", "--rows", 1000, "--dimension", 5)
        assert all(one["vacuous"] == (one["size"] >= 1000) for one in found["sizes"])
        assert any(one["vacuous"] for one in found["sizes"])
        shown = call("size", "--task", "l1", "--rows", 1000, "--dimension", 5)
        assert "vacuous: all rows" in shown.stdout

    def test_for_data_they_are_those_of_the_reducer(self, data: Path):
        whole = columns()
        found = done("size", data, *SQUARES, "--accuracy", 0.3)
        reducer = SensitivityReducer(LeastSquares(intercept=True))
        claim = reducer.claim(WeightedSet(whole["X"], labels=whole["t"]))
        assert found["sizes"][0]["size"] == claim.size(Accuracy(0.3, 0.05))
        assert done("size", data, *SVM, "--accuracy", 0.5)["guarantee"] == "S2"


class TestInterruption:
    @pytest.mark.parametrize("where", ["reduce_table", "write_rows"])
    def test_control_c_exits_130_and_leaves_no_file(
        self, where: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        def interrupted(*_arguments: Any, **_named: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(module, where, interrupted)
        found = call("reduce", data, *SVM, "--size", 50, "--out", tmp_path / "kept.npz")
        assert found.exit_code == 130
        assert found.stderr == "Interrupted; nothing was written.\n"
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
    def test_a_process_that_is_stopped_on_the_way_leaves_the_old_output(
        self, number: signal.Signals, data: Path, tmp_path: Path
    ):
        out = tmp_path / "kept.npz"
        out.write_bytes(b"old")
        # Stops in the middle of writing the rows: half of them are on the disk when the signal comes.
        code = (
            "import signal, sys, time\n"
            # A shell that starts the tests in the background has it ignored.
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "import coresets.files.writing as writing\n"
            "from coresets.command_line import main\n"
            "def slow(file, arrays):\n"
            "    file.write(b'half'); file.flush()\n"
            "    print('writing', file=sys.stderr, flush=True)\n"
            "    time.sleep(60)\n"
            "writing._write_archive = slow\n"
            "main()\n"
        )
        arguments = ["reduce", data, *SVM, "--size", 50, "--out", out]
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert process.stderr is not None
        try:
            assert process.stderr.readline() == "writing\n"
            time.sleep(0.05)
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == (130 if number is signal.SIGINT else -number)
        assert out.read_bytes() == b"old"
        if number is signal.SIGINT:
            assert errors == "Interrupted; nothing was written.\n"
            assert not list(tmp_path.glob(".*"))


def test_the_seed_of_the_command_is_no_plain_seed(tmp_path: Path):
    # Labels made by the uniforms of default_rng(0), in the order in which Poisson sampling draws them.
    rng = np.random.default_rng(0)
    y = (rng.random(N) > 0.9).astype(float)
    np.savez(tmp_path / "data.npz", X=rng.standard_normal((N, 2)), t=y)
    done("reduce", tmp_path / "data.npz", *SQUARES, "--size", 2000, "--out", tmp_path / "kept.npz")
    with np.load(tmp_path / "kept.npz") as kept:
        assert 0.05 < kept["t"].mean() < 0.5


def test_the_version_is_told():
    assert call("--version").stdout.startswith("coresets, version ")


def test_a_stream_has_bounded_nodes():
    request = reducing.Request(100, None, 0, 2**20)
    table = type("Table", (), {"rows": 10**9})()
    budget, block = reducing._budget(table, request, 160)
    assert budget.of(level=1, reduction=1, shard=0, block=block)["size"] <= block / 2
