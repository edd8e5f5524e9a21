"""What holds for the whole process: the seed, the dtype policy, and nothing else."""

from dataclasses import dataclass, field

import jax.numpy as jnp

from lamina.core.errors import ConfigError, nearest

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
        return cls(policy if isinstance(policy, str) else jnp.dtype(policy).name)


@dataclass
class Config:
    """The settings of this process, as ``lm.config``.

    Attributes:
        seed: the root of every random number (see :func:`set_random_seed`).
        dtype_policy: what a layer uses that names none (see :meth:`set_dtype_policy`).
    """

    seed: int = 0
    dtype_policy: DtypePolicy = field(default_factory=lambda: DtypePolicy("float32"))
    #: how many keys were drawn outside any model's step since the seed was set
    draws: int = 0

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
