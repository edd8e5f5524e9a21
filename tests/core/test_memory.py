import ctypes
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import native
from lamina.core import memory
from lamina.training.turns import LongProgram


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


def test_memory_is_given_back_after_long_compilations(monkeypatch):
    trimmed = []
    monkeypatch.setattr(memory, "_keeps", True)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: type("C", (), {"malloc_trim": trimmed.append}))
    memory._after_compiling(memory.COMPILED, memory.LONG / 2)
    memory._after_compiling("/jax/another/event", memory.LONG * 2)
    assert trimmed == []
    memory._after_compiling(memory.COMPILED, memory.LONG * 2)
    assert trimmed == [0]


@pytest.mark.skipif(not native.load().names, reason="the native kernels were not built")
def test_the_place_of_a_program_is_found_again_though_small_pieces_come_and_go():
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        assert native.place_of(1 << 20) is None
        pytest.skip("another C library has another heap")
    # in a process of its own, where no other thread takes pieces meanwhile
    program = """
import ctypes
from lamina import native
libc = ctypes.CDLL(None)
libc.aligned_alloc.restype = libc.malloc.restype = ctypes.c_void_p
libc.aligned_alloc.argtypes, libc.malloc.argtypes = [ctypes.c_size_t] * 2, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
size, line = 40 << 20, 64
first = libc.aligned_alloc(line, size)
behind = libc.malloc(1 << 16)
libc.free(first)
for _ in range(20):
    told = native.place_of(size)
    small = [libc.malloc(n) for n in (48, 104, 48, 24)]
    found = libc.aligned_alloc(line, size)
    print(told, found)
    for piece in (*small, found):
        libc.free(piece)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    places = [line.split() for line in result.stdout.splitlines()]
    assert len(places) == 20
    assert all(told == found == places[0][0] for told, found in places)


@pytest.mark.skipif(not native.load().names, reason="the native kernels were not built")
def test_memory_is_given_back_before_a_long_program_works_elsewhere(monkeypatch):
    events, places = [], iter([10, 10, 20, 10, 20, 30, 10])
    monkeypatch.setattr(memory, "_keeps", True)
    monkeypatch.setattr(memory, "give_back", lambda: events.append("given back"))
    monkeypatch.setattr(native, "place_of", lambda size: events.append(size) or next(places))

    def blurred(state, constant, x):
        events.append("traced")
        for _ in range(3):
            x = jnp.sin(x @ x)
        return state, x + constant

    program, x = LongProgram(jax.jit(blurred)), np.ones((64, 64), "float32")
    given_back = []
    for _ in range(7):
        before = len(events)
        state, y = program(1.0, 2.0, x)
        given_back.append("given back" in events[before:])
    # not where it worked the last time or the last but one
    assert given_back == [True, False, True, False, False, True, True]
    assert float(state) == 1.0
    np.testing.assert_allclose(y, np.asarray(jax.jit(blurred)(1.0, 2.0, x)[1]))
    sizes = [event for event in events if isinstance(event, int)]
    assert min(sizes) >= x.nbytes
    assert len(set(sizes)) == 1
    assert events.count("traced") == 1
    monkeypatch.setattr(memory, "_keeps", False)
    before = len(events)
    program(1.0, 2.0, x)
    assert len(events) == before


def test_large_data_is_copied_before_a_program_is_given_it():
    small, large = np.arange(10.0, dtype="float32"), np.arange(100_001, dtype="int32")[1:]
    found = memory.arrived({"small": small, "large": large, "there": jnp.ones(3)})
    assert found["large"].is_ready()
    large[0] = -1
    np.testing.assert_array_equal(found["large"], np.arange(1, 100_001))
    np.testing.assert_array_equal(found["small"], small)
    assert memory.arrived(small) is small
