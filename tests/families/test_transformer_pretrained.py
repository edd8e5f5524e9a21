import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.flax import save_file as save_half
from safetensors.numpy import save_file

from lamina.core.errors import ConfigError, FileError, ShapeError
from lamina.families import TransformerEncoder
from lamina.families.base import load
from lamina.families.tokenizer import SubwordTokenizer
from tests.families.test_transformer import GOOD, VERSE, WEATHER, classifier

WIDTH, HIDDEN, HEADS, CONTEXT, VOCABULARY = 8, 12, 2, 16, 280
rng = np.random.default_rng(0)


def normal(*shape):
    return rng.normal(0, 0.5, shape).astype("float32")


def folder_of(path, config, tensors):
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path / "model.safetensors")
    (path / "tokenizer.json").write_text(SubwordTokenizer.train([VERSE], VOCABULARY).to_json())
    return path


def bert(path, **changes):
    config = {
        "model_type": "bert",
        "hidden_size": WIDTH,
        "intermediate_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_hidden_layers": 2,
        "max_position_embeddings": CONTEXT,
        "vocab_size": VOCABULARY,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
    }
    tensors = {
        "embeddings.word_embeddings.weight": normal(VOCABULARY, WIDTH),
        "embeddings.position_embeddings.weight": normal(CONTEXT, WIDTH),
        "embeddings.token_type_embeddings.weight": normal(2, WIDTH),
        "embeddings.LayerNorm.weight": normal(WIDTH),
        "embeddings.LayerNorm.bias": normal(WIDTH),
        "pooler.dense.weight": normal(WIDTH, WIDTH),
    }
    for i in range(2):
        sizes = {f"attention.self.{part}": (WIDTH, WIDTH) for part in ("query", "key", "value")}
        sizes |= {
            "attention.output.dense": (WIDTH, WIDTH),
            "intermediate.dense": (HIDDEN, WIDTH),
            "output.dense": (WIDTH, HIDDEN),
            "attention.output.LayerNorm": (WIDTH,),
            "output.LayerNorm": (WIDTH,),
        }
        for name, size in sizes.items():
            tensors[f"encoder.layer.{i}.{name}.weight"] = normal(*size)
            tensors[f"encoder.layer.{i}.{name}.bias"] = normal(size[0])
    return folder_of(path, config | changes, {f"bert.{name}": value for name, value in tensors.items()}), tensors


def gpt2(path, **changes):
    config = {
        "model_type": "gpt2",
        "n_embd": WIDTH,
        "n_inner": None,
        "n_head": HEADS,
        "n_layer": 2,
        "n_positions": CONTEXT,
        "vocab_size": VOCABULARY,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
    }
    tensors = {
        "wte.weight": normal(VOCABULARY, WIDTH),
        "wpe.weight": normal(CONTEXT, WIDTH),
        "ln_f.weight": normal(WIDTH),
        "ln_f.bias": normal(WIDTH),
    }
    for i in range(2):
        sizes = {
            "ln_1": (WIDTH,),
            "ln_2": (WIDTH,),
            "attn.c_attn": (WIDTH, 3 * WIDTH),
            "attn.c_proj": (WIDTH, WIDTH),
            "mlp.c_fc": (WIDTH, 4 * WIDTH),
            "mlp.c_proj": (4 * WIDTH, WIDTH),
        }
        for name, size in sizes.items():
            tensors[f"h.{i}.{name}.weight"] = normal(*size)
            tensors[f"h.{i}.{name}.bias"] = normal(size[-1])
    return folder_of(path, config | changes, tensors), tensors


# The two networks once more, in NumPy and double precision, one text at a time.


def layer_norm(x, weight, bias, epsilon):
    centered = x - x.mean(-1, keepdims=True)
    return centered / np.sqrt((centered**2).mean(-1, keepdims=True) + epsilon) * weight + bias


def attend(q, k, v, causal):
    taken = []
    for head in range(HEADS):
        part = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
        scores = q[:, part] @ k[:, part].T / math.sqrt(WIDTH // HEADS)
        if causal:
            scores[np.triu_indices(len(q), 1)] = -np.inf
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        taken.append(shares / shares.sum(-1, keepdims=True) @ v[:, part])
    return np.concatenate(taken, axis=-1)


def bert_by_hand(t, tokens):
    def linear(name, x):
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    def norm(name, x):
        return layer_norm(x, t[f"{name}.weight"], t[f"{name}.bias"], 1e-12)

    x = t["embeddings.word_embeddings.weight"][tokens].astype("float64")
    x = x + t["embeddings.position_embeddings.weight"][: len(tokens)] + t["embeddings.token_type_embeddings.weight"][0]
    x = norm("embeddings.LayerNorm", x)
    for i in range(2):
        at = f"encoder.layer.{i}"
        q, k, v = (linear(f"{at}.attention.self.{part}", x) for part in ("query", "key", "value"))
        x = norm(f"{at}.attention.output.LayerNorm", x + linear(f"{at}.attention.output.dense", attend(q, k, v, False)))
        h = linear(f"{at}.intermediate.dense", x)
        h = h * (1 + np.vectorize(math.erf)(h / math.sqrt(2))) / 2
        x = norm(f"{at}.output.LayerNorm", x + linear(f"{at}.output.dense", h))
    return x


def gpt2_by_hand(t, tokens):
    def linear(name, x):
        return x @ t[f"{name}.weight"] + t[f"{name}.bias"]

    def norm(name, x):
        return layer_norm(x, t[f"{name}.weight"], t[f"{name}.bias"], 1e-5)

    x = t["wte.weight"][tokens].astype("float64") + t["wpe.weight"][: len(tokens)]
    for i in range(2):
        at = f"h.{i}"
        x = x + linear(
            f"{at}.attn.c_proj", attend(*np.split(linear(f"{at}.attn.c_attn", norm(f"{at}.ln_1", x)), 3, -1), True)
        )
        h = linear(f"{at}.mlp.c_fc", norm(f"{at}.ln_2", x))
        h = h * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3))) / 2
        x = x + linear(f"{at}.mlp.c_proj", h)
    return norm("ln_f", x)


TEXTS = ["to be", "or not to be, that is the question", ""]


@pytest.mark.parametrize(("make", "by_hand"), [(bert, bert_by_hand), (gpt2, gpt2_by_hand)])
def test_a_pretrained_network_gives_what_it_gives_elsewhere(tmp_path, make, by_hand):
    folder, tensors = make(tmp_path / "net")
    encoder = TransformerEncoder.from_pretrained(folder)
    tokens = [row[row >= 0] for row in encoder.encode(TEXTS)]
    assert len(tokens[1]) <= CONTEXT
    expected = [by_hand(tensors, row) for row in tokens]
    for found, wanted in zip(encoder.hidden_states(TEXTS), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-5)
    poolings = {"mean": lambda x: x.mean(0), "cls": lambda x: x[0], "last": lambda x: x[-1]}
    for pooling, pool in poolings.items():
        vectors = TransformerEncoder.from_pretrained(folder, pooling).transform(TEXTS)
        np.testing.assert_allclose(vectors, [pool(x) for x in expected], atol=2e-5)
    unit = TransformerEncoder.from_pretrained(folder, normalize=True, max_length=2).transform(TEXTS)
    wanted = [pooled / np.linalg.norm(pooled) for pooled in (by_hand(tensors, row[:2]).mean(0) for row in tokens)]
    np.testing.assert_allclose(unit, wanted, atol=2e-5)
    frame = encoder.set_output(transform="pandas").transform(TEXTS)
    assert frame.columns.tolist() == [f"transformerencoder{i}" for i in range(WIDTH)]
    encoder.set_output(transform="default")
    encoder.save(tmp_path / "encoder.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "encoder.safetensors").transform(TEXTS), encoder.transform(TEXTS))


def test_older_spellings_and_half_precision_are_read(tmp_path):
    folder, tensors = bert(tmp_path / "net")
    expected = TransformerEncoder.from_pretrained(folder).transform(["to be"])
    old = {
        f"bert.{name.replace('Norm.weight', 'Norm.gamma').replace('Norm.bias', 'Norm.beta')}": value
        for name, value in tensors.items()
    }
    assert any(name.endswith("LayerNorm.gamma") for name in old)  # as bert-base-uncased has them
    save_file(old, folder / "model.safetensors")
    np.testing.assert_array_equal(TransformerEncoder.from_pretrained(folder).transform(["to be"]), expected)
    half = {name: jnp.asarray(value, "bfloat16") for name, value in tensors.items()}
    save_half(half, folder / "model.safetensors")
    found = TransformerEncoder.from_pretrained(folder).model_.transformer.tokens.embeddings.numpy()
    np.testing.assert_array_equal(found, half["embeddings.word_embeddings.weight"].astype("float32"))


def test_fine_tuning_starts_from_a_folder(tmp_path):
    folder, tensors = bert(tmp_path / "net")
    model = classifier(encoder=folder, learning_rate=1e-2, epochs=30, validation_fraction=0.0)
    found = model._network(WEATHER, 2).vectors.transformer.tokens.embeddings.numpy()  # what fit trains
    np.testing.assert_array_equal(found, tensors["embeddings.word_embeddings.weight"])
    model.fit(WEATHER, GOOD)
    assert model.score(WEATHER, GOOD) > 0.9
    model.save(tmp_path / "tuned.safetensors")
    again = load(tmp_path / "tuned.safetensors")
    np.testing.assert_array_equal(again.predict_proba(WEATHER), model.predict_proba(WEATHER))


def test_folders_that_cannot_be_read_are_told_apart(tmp_path):
    with pytest.raises(ConfigError, match="needs a folder"):
        TransformerEncoder().fit()
    with pytest.raises(FileError, match="no folder"):
        TransformerEncoder.from_pretrained(tmp_path / "none")
    folder, _ = bert(tmp_path / "a", model_type="t5")
    with pytest.raises(ConfigError, match="'t5'; Lamina reads bert and gpt2"):
        TransformerEncoder.from_pretrained(folder)
    folder, _ = bert(tmp_path / "b", hidden_size=WIDTH + 2)
    with pytest.raises(ShapeError, match="it should be"):
        TransformerEncoder.from_pretrained(folder)
    folder, _ = bert(tmp_path / "c", position_embedding_type="relative_key")
    with pytest.raises(ConfigError, match="relative_key"):
        TransformerEncoder.from_pretrained(folder)
    folder, _ = gpt2(tmp_path / "d", activation_function="softplus")
    with pytest.raises(ConfigError, match="softplus"):
        TransformerEncoder.from_pretrained(folder)
    folder, _ = gpt2(tmp_path / "e", n_layer=3)
    with pytest.raises(FileError, match=r"no weights for 'h\.2"):
        TransformerEncoder.from_pretrained(folder)
    settings = json.loads((folder / "config.json").read_text())
    for change, told in (
        ({"n_layer": 10**9}, "takes too many steps"),
        ({"n_layer": "many"}, "depth as a whole number"),
        ({"n_embd": None, "n_inner": None}, "no network that can be built"),
    ):
        (folder / "config.json").write_text(json.dumps(settings | change))
        with pytest.raises((FileError, ConfigError), match=told):
            TransformerEncoder.from_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(FileError, match="n_embd"):
        TransformerEncoder.from_pretrained(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(FileError, match="settings"):
        TransformerEncoder.from_pretrained(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(FileError, match=r"no tokenizer\.json"):
        TransformerEncoder.from_pretrained(folder)
    folder, _ = bert(tmp_path / "f")
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(FileError, match=r"model\.safetensors cannot be read"):
        TransformerEncoder.from_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    folder, _ = bert(tmp_path / "g", vocab_size=VOCABULARY)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(FileError, match="tokenizer"):
        TransformerEncoder.from_pretrained(folder)
