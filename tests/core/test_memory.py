import sys

import jax
import jax.numpy as jnp
import pytest

from lamina.core import memory


def test_what_is_left_is_the_least_of_the_limits(monkeypatch):
    resource = pytest.importorskip("resource")
    if not sys.platform.startswith("linux"):
        assert memory.memory_left() is None
        return
    free = memory.memory_left()
    assert free > 1e6
    used = int(memory._words("/proc/self/statm")[0]) * resource.getpagesize()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (used + 5_000_000, used + 5_000_000))
    assert 0 <= memory.memory_left() <= 6_000_000
    monkeypatch.setattr(memory, "_lines", lambda path: [])
    assert memory.memory_left() is None


def test_a_program_is_done_when_its_call_returns():
    x, program = jnp.ones((1000, 1000)), jax.jit(lambda x: x @ x @ x @ x)
    program(x)
    assert program(x).is_ready()
