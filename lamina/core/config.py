"""What holds for the whole process: the seed, the dtype policy, whether bytes are the same everywhere, and nothing else."""

import os
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax._src import xla_bridge

from lamina.core.errors import ConfigError, StateError, nearest

#: policy name -> (dtype of the arithmetic, dtype of the weights)
POLICIES = {
    "float32": ("float32", "float32"),
    "float64": ("float64", "float64"),
    "float16": ("float16", "float16"),
    "bfloat16": ("bfloat16", "bfloat16"),
    "mixed_float16": ("float16", "float32"),
    "mixed_bfloat16": ("bfloat16", "float32"),
}


@dataclass(frozen=True)
class DtypePolicy:
    """In which dtype a layer computes and in which it keeps its weights.

    Args:
        name: ``"float32"``, ``"bfloat16"``, ``"mixed_bfloat16"`` (computes in bfloat16, keeps float32 weights), ...

    Raises:
        ConfigError: for an unknown name.

    >>> DtypePolicy("mixed_bfloat16").compute_dtype, DtypePolicy("mixed_bfloat16").variable_dtype
    ('bfloat16', 'float32')
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in POLICIES:
            raise ConfigError(f"{self.name!r} is not a dtype policy. {nearest(self.name, POLICIES)}")

    @property
    def compute_dtype(self) -> str:
        """The dtype of activations and arithmetic."""
        return POLICIES[self.name][0]

    @property
    def variable_dtype(self) -> str:
        """The dtype of weights."""
        return POLICIES[self.name][1]

    @classmethod
    def get(cls, policy: "str | DtypePolicy | None") -> "DtypePolicy":
        """``policy`` itself, the policy of that name, or the process's own for ``None``."""
        if policy is None:
            return config.dtype_policy
        if isinstance(policy, DtypePolicy):
            return policy
        try:
            return cls(policy if isinstance(policy, str) else jnp.dtype(policy).name)
        except TypeError:
            raise ConfigError(
                f'a dtype policy is the name of one, as "mixed_bfloat16", or a dtype; received {policy!r}.'
            ) from None


@dataclass
class Config:
    """The settings of this process, as ``lm.config``.

    Attributes:
        seed: the root of every random number (see :func:`set_random_seed`).
        dtype_policy: what a layer uses that names none; a policy or the name of one may be assigned.
        is_deterministic: whether the bytes depend on the seed alone (see :meth:`deterministic`).
    """

    seed: int = 0
    dtype_policy: DtypePolicy = field(default_factory=lambda: DtypePolicy("float32"))
    #: how many keys were drawn outside any model's step since the seed was set
    draws: int = 0
    is_deterministic: bool = False

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, DtypePolicy.get(value) if name == "dtype_policy" else value)

    def deterministic(self) -> None:
        """Let the same seed give the same bytes on the same machine, whatever the process, the hash seed and its threads.

        Without it, a program that is run again in the same way gives the same bytes on a CPU too, as Lamina's own kernels
        never sum by the number of threads. But XLA splits products and sums by that number, which is that of the cores a
        process may use, or what ``NPROC`` in the environment says; and on a GPU it adds up in whatever order is fastest.
        With it

        - XLA's CPU threads are as many as the machine has cores (``os.cpu_count()``), in every process, also in one that
          may run on some of them only. It costs no time where all may be used.
        - XLA's GPU programs hold deterministic operations alone, and no algorithm is chosen by a measurement
          (``--xla_gpu_deterministic_ops``). This costs time.
        - Compiled programs are kept in a folder of their own.

        It cannot be taken back: what was compiled or computed before would be of the other kind.

        Raises:
            StateError: if it comes after the first array.

        >>> import subprocess, sys
        >>> program = "import lamina as lm; lm.config.deterministic(); print(lm.config.is_deterministic)"
        >>> subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
        'True\\n'
        """
        if self.is_deterministic:
            return
        if xla_bridge.backends_are_initialized():
            raise StateError(
                "lm.config.deterministic() comes before the first array, as XLA reads its settings once; there are arrays "
                "already.\nWrite it in the line after the import:  import lamina as lm; lm.config.deterministic()"
            )
        threads = os.cpu_count() or 1
        os.environ["PJRT_NPROC"] = str(threads)
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()
        settings: Any = jax.config
        if settings.jax_compilation_cache_dir is not None:
            # a program is compiled for a number of threads, which JAX's names of programs do not tell
            folder = os.path.join(settings.jax_compilation_cache_dir, f"deterministic-{threads}")
            jax.config.update("jax_compilation_cache_dir", folder)
        self.is_deterministic = True

    def set_dtype_policy(self, policy: str | DtypePolicy) -> None:
        """Make ``policy`` the one that new layers take."""
        self.dtype_policy = DtypePolicy.get(policy)


config = Config()


def set_random_seed(seed: int) -> None:
    """Set the root of every random number: first weights, shuffling, dropout, ``lm.random``.

    Weights are a function of the seed and their path in the model, so the same program gives the same weights.

    Args:
        seed: a whole number from 0 to 2**32 - 1.
    """
    if isinstance(seed, bool) or not 0 <= int(seed) < 2**32:
        raise ConfigError(f"a seed is a whole number from 0 to 2**32 - 1, not {seed!r}")
    config.seed, config.draws = int(seed), 0
