"""Settings for every test, doctests included."""

import os
from importlib.metadata import version
from pathlib import Path

import jaxtyping

# Tests run small programs once: compiling them quickly matters more than how fast they run.
flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
flags += "--xla_cpu_parallel_codegen_split_count=1"
if version("jax").startswith("0.10."):  # later ones do not know it
    flags += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", flags)
# or scikit-learn leaves out its checks of the array API
os.environ.setdefault("SCIPY_ARRAY_API", "1")
# Many tests compile the same programs, and so does the next run. Nothing outside the checkout is written to.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent / ".cache" / "programs"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.02")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")

# The shapes and types in the kernels' signatures are checked at every call, with whole numbers taken for floats.
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
jaxtyping.install_import_hook("lamina.kernels", CHECKER)
