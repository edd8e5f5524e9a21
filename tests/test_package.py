import importlib.machinery
import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest

from lamina.core import memory

HEAVY = ("matplotlib", "sklearn", "polars", "pandas", "optax", "rich", "typer", "PIL", "scipy", "torch", "jaxtyping")


def test_importing_lamina_imports_nothing_heavy():
    code = f"import lamina, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_families_that_scikit_learn_has_no_type_for_do_without_it():
    names = "TransformerLanguageModel, RNNLanguageModel, RNNForecaster, GAN, SuperResolution, ImageTranslator, load"
    code = (
        f"from lamina.families import {names}; import sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_compiled_programs_are_kept_between_processes(tmp_path):
    layer = "lm.layers.Dense(1, kernel_initializer='random_normal')"
    code = f"import lamina as lm; lm.Sequential([lm.Input((2,)), {layer}]).predict([[1.0, 2.0]])"
    unset = ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE")
    env = {name: value for name, value in os.environ.items() if name not in unset} | {"XDG_CACHE_HOME": str(tmp_path)}
    kept = []
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code], env=env, check=True)
        kept.append({path.name for path in (tmp_path / "lamina" / "programs").glob("*-cache")})
    names = {name.split("-")[0] for name in kept[0]}
    assert {"jit__drawn", "jit_predicted"} <= names
    assert kept[0] == kept[1]


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc's memory is kept")
def test_freed_memory_is_kept():
    program = (
        "import ctypes, resource, numpy as np, lamina\n"
        "ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)\n"  # no huge pages: with luck all memory is a few of them
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "before = faults()\n"
        "for _ in range(10): np.ones(10_000_000, 'float32')\n"  # 40 MB, above what is kept by default
        "print(faults() - before)"
    )
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", program], env=env, check=True, capture_output=True).stdout)
        for env in (dict(os.environ), os.environ | {"MALLOC_ARENA_MAX": "8"})
    )
    assert kept < given_back / 3


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc's memory is kept")
def test_an_accelerator_leaves_memory_as_it_is(monkeypatch):
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: pytest.fail("mallopt was looked for"))
    for asked in ("cuda", "cuda,cpu", "tpu"):
        monkeypatch.setattr(memory, "jax", SimpleNamespace(config=SimpleNamespace(jax_platforms=asked)))
        assert not memory.keep_freed_memory()
    monkeypatch.setattr(memory, "jax", SimpleNamespace(config=SimpleNamespace(jax_platforms="")))
    monkeypatch.setitem(sys.modules, "jax_plugins", ModuleType("jax_plugins"))
    sys.modules["jax_plugins"].__spec__ = importlib.machinery.ModuleSpec("jax_plugins", None)  # as a plugin brings it
    assert not memory.keep_freed_memory()
