"""Who may import whom, what an import may load, and what the wheel holds."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import coresets

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("coresets", "nn", "proofs_check")

# Imports every module of a package, the command lines aside, which run when imported.
IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module({package!r})
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


# As where torch is not installed. An entry None in sys.modules would be found by SciPy, which then asks it
# for its Tensor.
WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
sys.meta_path.insert(0, Refuse())
"""


def run_python(code: str) -> str:
    """Run the code in a new interpreter at the root of the repository and return what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_contracts_of_pyproject_are_kept():
    cli = pytest.importorskip("importlinter.cli")
    assert cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), is_debug_mode=False) == 0


def test_no_module_of_coresets_loads_torch_nn_or_proofs_check():
    code = IMPORT_ALL.format(package="coresets")
    code += "print(sorted({'torch', 'nn', 'proofs_check'} & set(sys.modules)))"
    assert run_python(code) == "[]"


def test_coresets_works_where_torch_is_not_installed():
    run_python(WITHOUT_TORCH + IMPORT_ALL.format(package="coresets"))


@pytest.mark.parametrize("package", ["nn", "proofs_check"])
def test_package_imports_where_torch_is_not_installed(package: str):
    run_python(f"{WITHOUT_TORCH}import {package}")


def test_no_module_of_nn_loads_proofs_check():
    pytest.importorskip("torch")
    code = IMPORT_ALL.format(package="nn") + "print('proofs_check' in sys.modules)"
    assert run_python(code) == "False"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_exists(package: str):
    run_python(f"import {package} as p\nfor name in p.__all__: getattr(p, name)")


def test_version_is_that_of_the_distribution():
    assert coresets.__version__ == version("coresets")
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = coresets.no_such_name


def test_wheel_holds_exactly_the_three_typed_packages(tmp_path: Path):
    # From the source distribution, as an installer would: what that lacks is lacking here too.
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        capture_output=True,
        timeout=300,
        check=True,
    )
    (wheel,) = tmp_path.glob("coresets-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    for package in PACKAGES:
        shipped = {name for name in names if name.startswith(f"{package}/")}
        assert f"{package}/py.typed" in shipped
        files = {p for p in (ROOT / package).rglob("*") if p.is_file() and "__pycache__" not in p.parts}
        assert shipped == {p.relative_to(ROOT).as_posix() for p in files}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
