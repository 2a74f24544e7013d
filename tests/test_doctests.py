"""Every example in the documentation runs and says the truth."""

import doctest
import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import vjpkit as vk

PACKAGE = Path(vk.__file__).parent
README = PACKAGE.parent / "README.md"
FLAGS = doctest.NORMALIZE_WHITESPACE

# The names that every example may use without importing them.
USUAL = {"np": np, "vk": vk}


def module_name(path: Path) -> str:
    parts = ("vjpkit", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


# __main__ is the command line: to import it is to run it.
MODULES = [
    module_name(path) for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__main__.py"
]


def is_documented(value: object) -> bool:
    """Functions, classes and callable objects; not modules, dtypes or constants."""
    return callable(value) and not isinstance(value, ModuleType | np.dtype)


PUBLIC = sorted(name for name in vk.__all__ if is_documented(getattr(vk, name)))


def run(test: doctest.DocTest) -> None:
    """Run one docstring's examples; fail with what doctest prints about them."""
    report: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=FLAGS)
    runner.run(test, out=report.append)
    if report:
        pytest.fail("".join(report), pytrace=False)


def names_for(module: ModuleType) -> dict[str, Any]:
    return USUAL | vars(module)


@pytest.mark.parametrize("name", MODULES)
def test_doctests_of_module(name: str):
    """All docstrings of a module: its own, its functions', its classes', their methods'."""
    module = importlib.import_module(name)
    for test in doctest.DocTestFinder().find(module, name, extraglobs=USUAL):
        run(test)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_shows_an_example(name: str):
    value = getattr(vk, name)
    text = inspect.getdoc(value) or ""
    assert ">>>" in text, f"the docstring of vjpkit.{name} has no example:\n{text}"
    # An object that is called like a function is invisible to doctest's own search.
    module = inspect.getmodule(value) or vk
    run(doctest.DocTestParser().get_doctest(text, names_for(module), f"vjpkit.{name}", None, 0))


def test_public_names_exist_once():
    assert len(vk.__all__) == len(set(vk.__all__))
    missing = [name for name in vk.__all__ if not hasattr(vk, name)]
    assert not missing, f"vjpkit.__all__ lists {missing}, which vjpkit does not define"


def test_readme_examples():
    """The README's Python examples, read from top to bottom as one."""
    blocks = re.findall(r"^```python\n(>>>.*?)^```$", README.read_text("utf-8"), re.M | re.S)
    assert len(blocks) >= 3
    text = "\n\n".join(blocks)
    run(doctest.DocTestParser().get_doctest(text, {}, "README.md", str(README), 0))
