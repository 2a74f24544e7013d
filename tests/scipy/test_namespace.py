"""The package as a whole: its modules, and what it says without SciPy."""

import subprocess
import sys

import pytest

import vjpkit as vk

pytest.importorskip("scipy")


def test_modules():
    for name in vk.scipy.__all__:
        assert getattr(vk.scipy, name).__name__ == f"vjpkit.scipy.{name}"
    assert set(vk.scipy.__all__) <= set(dir(vk.scipy))
    with pytest.raises(AttributeError, match=r"'vjpkit\.scipy' has no attribute 'spezial'; it has"):
        _ = vk.scipy.spezial


@pytest.mark.parametrize("name", vk.scipy.__all__)
def test_without_scipy_it_says_what_to_install(name):
    code = f"import sys; sys.modules['scipy'] = None; import vjpkit; vjpkit.scipy.{name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    wanted = f"ModuleNotFoundError: vjpkit.scipy.{name} needs SciPy: pip install 'vjpkit[scipy]'"
    assert done.stderr.splitlines()[-1] == wanted
