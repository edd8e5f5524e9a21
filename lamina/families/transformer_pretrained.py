"""Pretrained transformers from folders in the form of Hugging Face: settings, weights and tokenizer, no code."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from lamina.core import allowance
from lamina.core.errors import ConfigError, FileError, LaminaError, ShapeError
from lamina.families.base import Family, check_is_fitted, whole
from lamina.families.tokenizer import AnyTokenizer, SubwordTokenizer, by_length, padded, texts_in, tokenizer_from
from lamina.families.transformer_network import TextVectors, Transformer, outputs
from lamina.saving.model_file import NUMBERS, STEPS

Settings = Mapping[str, Any]
#: takes the name of a tensor and its shape; gives the tensor
Take = Callable[..., np.ndarray]

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


class TransformerEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, Family):
    """Vectors of texts from a pretrained network; nothing is learnt.

    Args:
        folder: a folder with ``config.json``, ``model.safetensors`` and ``tokenizer.json``, as Hugging Face has them, of
            a network of the shape of BERT or GPT-2.
        pooling: how a text's vector is made of its tokens' vectors: ``"mean"``, ``"cls"`` (the first) or ``"last"``.
        normalize: whether vectors are brought to length 1.
        max_length: how many tokens of a text are seen; as many as the network can if ``None``.

    Attributes:
        model_: the network, a :class:`TextVectors`.
        vocabulary_: the tokenizer as JSON.

    ``fit`` reads the folder; :meth:`from_pretrained` makes and fits in one. An empty text has the vector of the tokens
    that the tokenizer puts around every text, or zeros where it puts none.

    Example::

        encoder = TransformerEncoder.from_pretrained("all-MiniLM-L6-v2", normalize=True)
        encoder.transform(["How are you?", "How do you do?"])  # (2, 384)
    """

    _kept: ClassVar[tuple[str, ...]] = ("vocabulary_",)
    _folders = ("folder",)

    vocabulary_: str

    def __init__(
        self,
        folder: str | Path | None = None,
        pooling: str = "mean",
        normalize: bool = False,
        max_length: int | None = None,
    ) -> None:
        self.folder = folder
        self.pooling = pooling
        self.normalize = normalize
        self.max_length = max_length

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, pooling: str = "mean", normalize: bool = False, max_length: int | None = None
    ) -> Self:
        """The encoder in a folder; see the class for the arguments.

        Raises:
            FileError: if a file is missing or cannot be read.
            ConfigError: if the network is of another kind.
            ShapeError: if a weight has not the shape that ``config.json`` says.
        """
        return cls(str(folder), pooling, normalize, max_length).fit()

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Read the folder.

        Args:
            X: not used.
            y: not used.
        """
        if self.folder is None:
            raise ConfigError(
                'TransformerEncoder needs a folder.\nWrite:  TransformerEncoder.from_pretrained("folder")'
            )
        transformer, self.vocabulary_ = read_folder(self.folder)
        self.model_ = TextVectors(transformer, self.pooling, self.normalize)
        self.model_.build((None, transformer.context))
        return self

    @property
    def tokenizer_(self) -> AnyTokenizer:
        """The tokenizer, after ``fit``."""
        check_is_fitted(self, "vocabulary_")
        return tokenizer_from(self.vocabulary_)

    @property
    def _n_features_out(self) -> int:
        return int(self.model.transformer.width)

    def _tokens(self, texts: Any) -> list[np.ndarray]:
        check_is_fitted(self)
        most = self.model_.transformer.context
        if self.max_length is not None:
            most = min(whole("max_length", self.max_length), most)
        return self.tokenizer_.encode(texts_in(texts), most)

    def encode(self, texts: Any) -> np.ndarray:
        """The tokens of each text, ``(texts, length)``, -1 after the end of the shorter ones."""
        return padded(self._tokens(texts))

    def transform(self, X: Any) -> np.ndarray:
        """The vector of each text, ``(texts, width)``.

        Args:
            X: a list or array of strings.
        """
        return outputs(self.model, self._tokens(X), self.model.transformer.context)

    def hidden_states(self, texts: Any) -> list[np.ndarray]:
        """The last block's vectors of the tokens of each text, ``(tokens, width)``."""
        tokens = self._tokens(texts)
        found: list[Any] = [None] * len(tokens)
        for places, rows in by_length(tokens, self.model_.transformer.context):
            results = self.model_.transformer.predict(rows, batch_size=max(1, 512 // rows.shape[1]))
            for place, result in zip(places, results, strict=True):
                found[place] = result[: len(tokens[place])]
        return found


def read_folder(folder: str | Path) -> tuple[Transformer, str]:
    """The network in a folder, and its tokenizer as JSON.

    Raises:
        FileError: if a file is missing or cannot be read.
        ConfigError: if the network is of another kind than BERT and GPT-2.
        ShapeError: if a weight has not the shape that ``config.json`` says.
    """
    path = Path(folder)
    if not path.is_dir():
        raise FileError(f"there is no folder {path}")
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (path / name).is_file():
            raise FileError(
                f"{path} has no {name}; a pretrained network is config.json, model.safetensors, tokenizer.json."
            )
    try:
        settings = json.loads((path / "config.json").read_text(encoding="utf-8"))
        kind = settings.get("model_type")
        tokenizer = (path / "tokenizer.json").read_text(encoding="utf-8")
    except (OSError, ValueError, AttributeError) as error:
        raise FileError(f"{path}: its settings cannot be read: {error}") from None
    if kind not in _READERS:
        raise ConfigError(
            f"{path / 'config.json'} describes a network of the kind {kind!r}; Lamina reads {' and '.join(_READERS)}."
        )
    try:
        with allowance.granted(STEPS, NUMBERS):
            transformer, weights = _READERS[kind](settings, _taker(path / "model.safetensors"))
    except KeyError as error:
        raise FileError(
            f"{path / 'config.json'} does not say {error}, which a network of kind {kind!r} needs."
        ) from None
    except (TypeError, ValueError, ArithmeticError) as error:
        if isinstance(error, LaminaError):
            raise
        raise FileError(f"{path / 'config.json'} describes no network that can be built: {error}") from None
    vocabulary = SubwordTokenizer(tokenizer)
    if vocabulary.size > transformer.vocabulary:
        raise ShapeError(
            f"{path}: the tokenizer has {vocabulary.size} tokens, the network vectors for {transformer.vocabulary}."
        )
    transformer.build((None, transformer.context))
    variables = transformer.named_variables()
    for name, value in weights.items():
        variables[name].assign(value)
    return transformer, vocabulary.to_json()


def _taker(path: Path) -> Take:
    """A function that reads a tensor of the file by the end of its name, and checks its shape."""
    from safetensors import SafetensorError, safe_open

    try:
        file: Any = safe_open(path, framework="flax")  # JAX knows bfloat16, which NumPy does not
        names = {plain_name(name): name for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise FileError(f"{path} cannot be read: {error}") from None

    def take(name: str, *shape: int) -> np.ndarray:
        if name not in names:
            raise FileError(f"{path} has no weights for {name!r}.")
        tensor = np.asarray(file.get_tensor(names[name])).astype("float32")
        if tensor.shape != shape:
            raise ShapeError(f"{path}: {name!r} has shape {tensor.shape}; by config.json it should be {shape}.")
        return tensor

    return take


def plain_name(name: str) -> str:
    """A tensor's name without the network's, and in the present spelling: BERT's first files say gamma and beta.

    >>> plain_name("bert.embeddings.LayerNorm.gamma")
    'embeddings.LayerNorm.weight'
    """
    name = name.removeprefix("bert.").removeprefix("transformer.")
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        name = name.removesuffix(old) + new if name.endswith(old) else name
    return name


def _activation(name: str) -> str:
    if name not in ACTIVATIONS:
        raise ConfigError(f"the network has the activation {name!r}; Lamina reads {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]


def _refuse(settings: Settings, **wanted: Any) -> None:
    for name, value in wanted.items():
        if settings.get(name, value) != value:
            raise ConfigError(f"the network has {name}={settings[name]!r}; Lamina reads {name}={value!r} only.")


def _bert(settings: Settings, take: Take) -> tuple[Transformer, dict[str, np.ndarray]]:
    """A BERT: its blocks normalize their sums, and its projections are kept transposed."""
    _refuse(settings, position_embedding_type="absolute", is_decoder=False)
    width, hidden = settings["hidden_size"], settings["intermediate_size"]
    vocabulary, context = settings["vocab_size"], settings["max_position_embeddings"]
    network = Transformer(
        vocabulary,
        context,
        settings["num_hidden_layers"],
        width,
        settings["num_attention_heads"],
        hidden,
        normalize_first=False,
        activation=_activation(settings["hidden_act"]),
        epsilon=settings.get("layer_norm_eps", 1e-12),
    )

    def dense(name: str, inputs: int, units: int) -> dict[str, np.ndarray]:
        return {"kernel": take(f"{name}.weight", units, inputs).T, "bias": take(f"{name}.bias", units)}

    def norm(name: str) -> dict[str, np.ndarray]:
        return {"gamma": take(f"{name}.weight", width), "beta": take(f"{name}.bias", width)}

    # a text is all of the first type, whose vector is added to every position's
    types = take("embeddings.token_type_embeddings.weight", settings.get("type_vocab_size", 2), width)
    weights: dict[str, Any] = {
        "tokens": {"embeddings": take("embeddings.word_embeddings.weight", vocabulary, width)},
        "positions": {"embeddings": take("embeddings.position_embeddings.weight", context, width) + types[0]},
        "norm": norm("embeddings.LayerNorm"),
    }
    for i in range(network.depth):
        old, new = f"encoder.layer.{i}", f"blocks/{i}"
        parts = [dense(f"{old}.attention.self.{part}", width, width) for part in ("query", "key", "value")]
        joined = {name: np.concatenate([part[name] for part in parts], axis=-1) for name in ("kernel", "bias")}
        weights |= {
            f"{new}/attention/project": joined,
            f"{new}/attention/merge": dense(f"{old}.attention.output.dense", width, width),
            f"{new}/attention_norm": norm(f"{old}.attention.output.LayerNorm"),
            f"{new}/up": dense(f"{old}.intermediate.dense", width, hidden),
            f"{new}/down": dense(f"{old}.output.dense", hidden, width),
            f"{new}/norm": norm(f"{old}.output.LayerNorm"),
        }
    return network, _flat(weights)


def _gpt2(settings: Settings, take: Take) -> tuple[Transformer, dict[str, np.ndarray]]:
    """A GPT-2: causal, and its blocks normalize their inputs."""
    _refuse(settings, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False)
    width = settings["n_embd"]
    hidden = settings.get("n_inner") or 4 * width
    vocabulary, context = settings["vocab_size"], settings["n_positions"]
    network = Transformer(
        vocabulary,
        context,
        settings["n_layer"],
        width,
        settings["n_head"],
        hidden,
        causal=True,
        activation=_activation(settings["activation_function"]),
        epsilon=settings.get("layer_norm_epsilon", 1e-5),
    )

    def dense(name: str, inputs: int, units: int) -> dict[str, np.ndarray]:
        return {"kernel": take(f"{name}.weight", inputs, units), "bias": take(f"{name}.bias", units)}

    def norm(name: str) -> dict[str, np.ndarray]:
        return {"gamma": take(f"{name}.weight", width), "beta": take(f"{name}.bias", width)}

    weights: dict[str, Any] = {
        "tokens": {"embeddings": take("wte.weight", vocabulary, width)},
        "positions": {"embeddings": take("wpe.weight", context, width)},
        "norm": norm("ln_f"),
    }
    for i in range(network.depth):
        old, new = f"h.{i}", f"blocks/{i}"
        weights |= {
            f"{new}/attention_norm": norm(f"{old}.ln_1"),
            f"{new}/attention/project": dense(f"{old}.attn.c_attn", width, 3 * width),
            f"{new}/attention/merge": dense(f"{old}.attn.c_proj", width, width),
            f"{new}/norm": norm(f"{old}.ln_2"),
            f"{new}/up": dense(f"{old}.mlp.c_fc", width, hidden),
            f"{new}/down": dense(f"{old}.mlp.c_proj", hidden, width),
        }
    return network, _flat(weights)


def _flat(weights: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {f"{place}/{name}": value for place, part in weights.items() for name, value in part.items()}


_READERS: dict[str, Callable[[Settings, Take], tuple[Transformer, dict[str, np.ndarray]]]] = {
    "bert": _bert,
    "gpt2": _gpt2,
}
