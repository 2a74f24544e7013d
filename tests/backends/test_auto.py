"""The default backend: NumPy answers, machine code takes over where it has been worth it."""

import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.backends import auto, by_numpy, executable
from vjpkit.backends.auto import Auto
from vjpkit.backends.numpy_source import Lowered, Unavailable

X = np.linspace(0.1, 2.0, 50)


def wave(x):
    return np.sum(np.exp(-x) * np.sin(3 * x) ** 2)


def settled(f, *args):
    """The parts of the program, when it has settled."""
    until = time.monotonic() + 60
    while not f.staged_for(args, {}).execute.settled:
        assert time.monotonic() < until
        f(*args)
    return f.explain(*args)


def program():
    return vk.make_ir(vk.grad(wave))(X).program


class Slow(Lowered):
    """An executable that takes its time, and passes for machine code."""

    is_native = True


def slow(compiled):
    """An executable like another one, as `Slow`."""

    def run(*values):
        time.sleep(0.01)
        return compiled.run(*values)

    return Slow(compiled.program, compiled.source, compiled.parts, run, compiled.asked)


def test_short_lived_programs_are_not_compiled():
    f = vk.jit(vk.grad(wave))
    for _ in range(3):
        f(X)
    first, *rest = f.explain(X)
    assert re.fullmatch(
        r"NumPy tier:    \(it has run for less than 2\d ms, as long as compiling takes\)",
        str(first),
    )
    assert not any("native" in part.where for part in rest)
    assert f.native_ir(X) == ""


def test_machine_code_takes_over_when_it_is_worth_it(monkeypatch):
    monkeypatch.setattr(auto, "WORTH_PER_EQUATION", 0.0)
    monkeypatch.setattr(auto, "WORTH", 0.0)
    monkeypatch.setattr(auto, "SLOWER", np.inf)
    f = vk.jit(vk.grad(wave))
    wanted = vk.grad(wave)(X)
    parts = settled(f, X)
    assert {part.where for part in parts} == {"native kernel"}
    assert "@kernel_" in f.native_ir(X)
    for _ in range(3):  # by the ordinary way, which makes a new door, and by that
        assert np.allclose(f(X), wanted, rtol=1e-14)
    assert f.cache_info().misses == 1


def test_whoever_waits_has_machine_code_at_once():
    f = vk.jit(vk.grad(wave)).compile(X)
    assert {part.where for part in f.explain(X)} == {"native kernel"}
    assert np.allclose(f(X), vk.grad(wave)(X), rtol=1e-14)
    numpy = vk.jit(wave, backend="numpy").compile(X)
    assert not any("native" in part.where for part in numpy.explain(X))


def test_machine_code_that_is_slower_is_not_kept():
    it = Auto(program(), by_numpy, lambda p: slow(by_numpy(p)))
    it(X)
    it.prepare()
    for _ in range(auto.TRIALS):
        assert not it.settled
        it(X)
    assert it.settled
    assert it.tier is it.first
    assert "as machine code it took longer" in it.explain()[0].why


def test_what_machine_code_would_not_gain_stays():
    f = vk.jit(lambda a: np.linalg.inv(a)).compile(np.eye(3))
    assert f.explain(np.eye(3))[0].why == "nothing in it is quicker as machine code"


def test_an_error_of_the_compiler_is_told_and_harms_nobody(monkeypatch):
    def broken(p):
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(auto, "WORTH_PER_EQUATION", 0.0)
    monkeypatch.setattr(auto, "WORTH", 0.0)
    it = Auto(program(), by_numpy, broken)
    until = time.monotonic() + 60
    while not it.settled:
        assert time.monotonic() < until
        assert np.array_equal(it(X)[0], by_numpy(program())(X)[0])
    assert it.explain()[0].why == "RuntimeError in compiling it: no such instruction"
    waiting = Auto(program(), by_numpy, broken)
    with pytest.raises(RuntimeError, match="no such instruction"):
        waiting.compile()


def test_without_llvmlite_numpy_stays():
    def missing(p):
        raise Unavailable("the native tier needs llvmlite")

    it = Auto(program(), by_numpy, missing)
    it.compile()
    assert it.settled
    assert "needs llvmlite" in it.explain()[0].why


def test_without_threads_numpy_stays(monkeypatch):
    def none(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(auto, "WORTH_PER_EQUATION", 0.0)
    monkeypatch.setattr(auto, "WORTH", 0.0)
    monkeypatch.setattr(auto, "WORKSHOP", auto.Workshop())
    monkeypatch.setattr(threading.Thread, "start", none)
    it = Auto(program(), by_numpy, by_numpy)
    it(X)
    assert it.settled
    assert it.explain()[0].why == "no thread can compile it: can't start new thread"
    assert np.array_equal(it(X)[0], by_numpy(program())(X)[0])


def test_threads_may_call_while_the_tiers_change(monkeypatch):
    monkeypatch.setattr(auto, "WORTH_PER_EQUATION", 0.0)
    monkeypatch.setattr(auto, "WORTH", 0.0)
    f = vk.jit(vk.grad(wave))
    wanted, wrong = vk.grad(wave)(X), []

    def work():
        for _ in range(300):
            if not np.allclose(f(X), wanted, rtol=1e-14):
                wrong.append(threading.get_ident())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    settled(f, X)


SCRIPT = """
    import os, sys
    import numpy as np
    import vjpkit as vk
    from vjpkit.backends import auto
    auto.WORTH = auto.WORTH_PER_EQUATION = 0.0
    fs = [vk.jit(vk.grad(lambda x, k=k: np.sum(np.sin(x) * np.exp(x) / k))) for k in range(1, 9)]
    x = np.linspace(0, 1, 9)
    wanted = [f(x) for f in fs]
"""


def run(body, before=""):
    source = "".join(map(textwrap.dedent, (before, SCRIPT, body)))
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", source],
        capture_output=True,
        text=True,
        timeout=120,
        env={"VJPKIT_CACHE": "", "PATH": "/usr/bin:/bin"},
        check=False,
    )


def test_a_process_may_end_while_something_is_compiled():
    done = run("print('bye')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "bye\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_process_may_fork_while_something_is_compiled():
    done = run(
        """
        child = os.fork()
        for _ in range(200):
            for f, y in zip(fs, wanted):
                assert np.allclose(f(x), y, rtol=1e-13)
        for f in fs:
            f.compile(x)
            assert np.allclose(f(x), wanted[fs.index(f)], rtol=1e-13)
        if child:
            assert os.waitpid(child, 0)[1] == 0
            print("both")
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "both\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_process_may_fork_while_the_compiler_is_imported():
    before = """
        import importlib.abc, sys, time
        met = []

        class Slow(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path, target=None):
                if name == "llvmlite.binding":
                    met.append(name)
                    time.sleep(0.5)

        sys.meta_path.insert(0, Slow())
        """
    done = run(
        """
        while not met:
            time.sleep(0.01)
        child = os.fork()
        for f, y in zip(fs, wanted):
            f.compile(x)
            assert np.allclose(f(x), y, rtol=1e-13)
        if child:
            assert os.waitpid(child, 0)[1] == 0
            print("both")
        """,
        before,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "both\n", "")


def test_a_compiled_map_that_is_used_much_becomes_machine_code(monkeypatch):
    monkeypatch.setattr(auto, "WORTH_PER_EQUATION", 0.0)
    monkeypatch.setattr(auto, "WORTH", 0.0)
    x = np.linspace(0.1, 1.0, 7)
    _, pullback = vk.vjp(lambda x: np.tanh(x) * np.exp(-x) + x**3, x)
    compiled = pullback.compile()
    ct = np.arange(7.0)
    (wanted,) = pullback(ct)
    run: Any = executable(compiled.backing.closed.program, "auto")
    until = time.monotonic() + 60
    while not run.settled:
        assert time.monotonic() < until
        assert np.allclose(compiled(ct)[0], wanted, rtol=1e-14)
    assert run.spent > 0
    assert np.allclose(compiled(ct)[0], wanted, rtol=1e-14)
