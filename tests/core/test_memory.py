import ctypes
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import native
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


def test_memory_is_given_back_after_the_first_run_of_a_program(monkeypatch):
    trimmed = []
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: type("C", (), {"malloc_trim": trimmed.append}))
    memory._give_back(memory.COMPILED, memory.LONG / 2)
    assert trimmed == []
    memory.settle()
    memory.settle()
    assert trimmed == [0]
    memory._give_back(memory.COMPILED, memory.LONG * 2)
    assert trimmed == [0, 0]


@pytest.mark.skipif(not native.load().names, reason="the native kernels were not built")
def test_aligned_memory_is_found_where_it_was_once_free_pieces_are_joined():
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        pytest.skip("another C library has another heap")
    libc.aligned_alloc.restype = libc.malloc.restype = ctypes.c_void_p
    libc.aligned_alloc.argtypes, libc.malloc.argtypes = [ctypes.c_size_t] * 2, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    size, line = 40 << 20, 64
    native.join_free_pieces()
    first = libc.aligned_alloc(line, size)
    behind = libc.malloc(1 << 16)
    libc.free(first)
    places = []
    for _ in range(20):
        native.join_free_pieces()
        places.append(libc.aligned_alloc(line, size))
        libc.free(places[-1])
    libc.free(behind)
    assert len(set(places)) == 1


def test_large_data_is_copied_before_a_program_is_given_it():
    small, large = np.arange(10.0, dtype="float32"), np.arange(100_001, dtype="int32")[1:]
    found = memory.arrived({"small": small, "large": large, "there": jnp.ones(3)})
    assert found["large"].is_ready()
    large[0] = -1
    np.testing.assert_array_equal(found["large"], np.arange(1, 100_001))
    np.testing.assert_array_equal(found["small"], small)
    assert memory.arrived(small) is small
