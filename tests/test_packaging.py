"""What is shipped: the built wheel and sdist, the documented commands, the cost of the import."""

import email
import email.message
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import vjpkit as vk

ROOT = Path(__file__).parents[1]
RUNTIME = {"numpy", "typing-extensions"}


def python(*arguments: str) -> str:
    """Run Python in the repository's root and give what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.fail(f"python {' '.join(arguments)}\n{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout


# Building ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that was built from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    python("-m", "build", "--no-isolation", "--outdir", str(folder))
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Iterator[zipfile.ZipFile]:
    (path,) = built.glob("*.whl")
    assert path.name == f"vjpkit-{vk.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    return email.message_from_bytes(wheel.read(f"{dist_info()}/METADATA"))


def dist_info() -> str:
    return f"vjpkit-{vk.__version__}.dist-info"


def package_files() -> set[str]:
    """Every file of the package in this checkout, code and data."""
    files = (path for path in (ROOT / "vjpkit").rglob("*") if path.is_file())
    return {
        path.relative_to(ROOT).as_posix()
        for path in files
        if "__pycache__" not in path.parts and path.suffix != ".pyc"
    }


def test_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile):
    names = {name for name in wheel.namelist() if not name.startswith(dist_info())}
    assert names == package_files()
    assert "vjpkit/py.typed" in names


def test_wheel_is_pure_python(wheel: zipfile.ZipFile):
    tags = email.message_from_bytes(wheel.read(f"{dist_info()}/WHEEL"))
    assert tags["Root-Is-Purelib"] == "true"
    assert tags.get_all("Tag") == ["py3-none-any"]
    compiled = [name for name in wheel.namelist() if name.endswith((".so", ".pyd", ".dll"))]
    assert not compiled


def test_wheel_installs_the_command(wheel: zipfile.ZipFile):
    commands = wheel.read(f"{dist_info()}/entry_points.txt").decode()
    assert "vjpkit = vjpkit.cli:main" in commands


def test_metadata(metadata: email.message.Message):
    assert metadata["Name"] == "vjpkit"
    assert metadata["Version"] == vk.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Description-Content-Type"] == "text/markdown"
    extras = {"scipy", "native", "notebooks", "bench", "test", "all"}
    assert set(metadata.get_all("Provides-Extra", [])) == extras


def test_runtime_needs_numpy_and_typing_extensions_only(metadata: email.message.Message):
    needed = [need for need in metadata.get_all("Requires-Dist", []) if "extra ==" not in need]
    assert {re.split(r"[^\w-]", need)[0] for need in needed} == RUNTIME


def test_sdist_holds_what_its_tests_need(built: Path):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert package_files() <= names
    assert {"README.md", "LICENSE", "pyproject.toml", "tests/conftest.py", ".ci/run"} <= names


def test_native_extra_is_bounded_in_version():
    """A new LLVM binding is tried here before anybody installs it."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    for need in extras["native"]:
        assert re.search(r"<\s*\d", need.partition(";")[0]), need


# The two commands ----------------------------------------------------------------------------


def test_the_readme_has_two_commands_and_ci_runs_the_second():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^python3 -m venv .*$", readme, re.MULTILINE)
    assert len(commands) == 2
    run, test = commands
    assert run.endswith(" -m vjpkit")
    assert "pytest" in test
    assert test in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


# Importing -----------------------------------------------------------------------------------


def test_import_loads_no_optional_package():
    """A plain ``import vjpkit`` costs NumPy and the standard library, even with all extras."""
    loaded = python(
        "-c",
        "import sys, numpy, typing_extensions; before = set(sys.modules); import vjpkit; "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})",
    )
    public = {name for name in loaded.split() if not name.startswith("_")}
    foreign = public - {"vjpkit", "numpy", *sys.stdlib_module_names}
    assert not foreign, f"import vjpkit also loads {sorted(foreign)}"
