"""Settings for every test, doctests included."""

import os

# Tests run small programs once: compiling them quickly matters more than how fast they run.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
# Nothing outside the checkout is written to.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")
