"""The programs of the second notebook, read once."""

from types import ModuleType

import pytest

from tests.real.programs import load


@pytest.fixture(scope="session")
def real() -> ModuleType:
    """The data and the models, as a module."""
    return load()
