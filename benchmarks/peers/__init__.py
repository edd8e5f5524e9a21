"""The frameworks, Lamina among them. Each has a file here with the networks, and ``prepare(work, data, way)``."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Framework:
    """How a framework is used.

    Args:
        module: its file here.
        environment: variables to set before it is imported.
        without: packages that it is used without: Keras on JAX imports TensorFlow where there is one, and need not.
        way: what ``prepare`` is told where the file knows several ways.
        kinds: the kinds of work it is used for in this way.
        own: whether it is in Lamina's environment, rather than the peers'.
        devices: what it is measured on.
    """

    module: str
    environment: dict[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    way: str = ""
    kinds: tuple[str, ...] = ("train", "predict", "generate", "product")
    own: bool = False
    devices: tuple[str, ...] = ("cpu",)


_TENSORFLOW = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
_JAX = {"KERAS_BACKEND": "jax"}
_BOTH = ("cpu", "gpu")

FRAMEWORKS = {
    "lamina": Framework("lamina", own=True, devices=_BOTH),
    "pytorch": Framework("pytorch", devices=_BOTH),
    "pytorch_compiled": Framework("pytorch", way="compiled", kinds=("train", "predict"), devices=_BOTH),
    "keras_tensorflow": Framework("keras", _TENSORFLOW),
    "keras_tensorflow_call": Framework("keras", _TENSORFLOW, way="call", kinds=("predict",)),
    "keras_jax": Framework("keras", _JAX, ("tensorflow",)),
    "keras_jax_call": Framework("keras", _JAX, ("tensorflow",), way="call", kinds=("predict",)),
    "flax": Framework("flax", devices=_BOTH),
    "sklearn": Framework("sklearn"),
    # a whole step, optimizer included, as one CUDA graph; "compiled" has one for each pass
    "pytorch_graphed": Framework("pytorch", way="graphed", kinds=("train", "predict"), devices=("gpu",)),
}
