import json

import numpy as np
import pytest

import lamina as lm
from lamina.core import registry
from lamina.core.errors import ConfigError
from lamina.core.registry import Configurable, deserialize, register, serialize


class Base(Configurable):
    def __init__(self, a, b=2):
        self.a, self.b = a, b


@register("test_registry")
class Child(Base):
    def __init__(self, c=None, **kwargs):
        super().__init__(**kwargs)
        self.c = c


@register("test_registry")
def double(x):
    return 2 * x


def test_the_config_is_the_signature_and_its_bases():
    assert Child.config_names() == ["c", "a", "b"]
    assert Child(a=1, c="x").get_config() == {"c": "x", "a": 1, "b": 2}


def test_objects_survive_json():
    original = Child(a=Child(a=(1, 2.5, None)), c={"f": double, "s": slice(1, None), "n": np.float32(0.5)})
    again = deserialize(json.loads(json.dumps(serialize(original))))
    assert isinstance(again.a, Child)
    assert again.a.a == [1, 2.5, None]
    assert again.c["f"] is double
    assert again.c["s"] == slice(1, None)
    assert again.c["n"] == 0.5
    array = deserialize(json.loads(json.dumps(serialize(np.arange(4, dtype="int16")))))
    np.testing.assert_array_equal(array, np.arange(4))
    assert array.dtype == np.int16


def test_an_argument_that_is_not_kept_is_named():
    class Careless(Configurable):
        def __init__(self, units):
            pass

    with pytest.raises(ConfigError, match=r"self.units = units"):
        Careless(3).get_config()


def test_only_registered_or_passed_classes_are_built():
    class Mine(Configurable):
        def __init__(self, a=1):
            self.a = a

    saved = serialize(Mine(5))
    with pytest.raises(ConfigError, match=r"'custom.Mine' is not registered"):
        deserialize(saved)
    with lm.custom_objects({"Mine": Mine}):
        assert deserialize(saved).a == 5
    with pytest.raises(ConfigError, match="not registered"):
        deserialize({"class": "os.system", "config": {}})
    with pytest.raises(ConfigError, match="no name to save it under"):
        serialize(lambda x: x)


@pytest.mark.parametrize(
    ("kind", "wrong", "right"),
    [
        ("optimizers", "adm", "adam"),
        ("losses", "binary_crossentropi", "binary_crossentropy"),
        ("layers", "Dens", "dense"),
    ],
)
def test_a_misspelt_name_gets_the_nearest(kind, wrong, right):
    with pytest.raises(ConfigError, match=f"Did you mean '{right}'"):
        registry.get(kind, wrong)


@pytest.mark.parametrize("kind", ["layers", "activations", "initializers", "losses", "metrics", "optimizers"])
def test_names_work_in_both_spellings(kind):
    for name in registry.names(kind):
        assert registry.lookup(kind, name) is registry.lookup(kind, registry.snake_case(name))


def test_an_init_may_call_itself_what_it_likes():
    class Mine(registry.Configurable):
        def __init__(this, size):  # noqa: N805
            this.size = size

    assert Mine(3).get_config() == {"size": 3}


def test_saved_arrays_have_the_dtypes_of_numbers_or_texts():
    for array in (np.eye(2, dtype="float32"), np.array(["a", "bcd"]), np.array([True]), np.array([2**40])):
        again = deserialize(serialize(array))
        assert again.dtype == array.dtype
        np.testing.assert_array_equal(again, array)
    assert registry.array_from(["a", 1, None], "object").tolist() == ["a", 1, None]
    assert registry.array_from([1.5], "bfloat16").dtype.name == "bfloat16"
    assert registry.array_from(["abc"], "<U1000000000").dtype == np.dtype(
        "<U3"
    )  # as long as the longest, whatever it says
    for values, dtype in (
        ([1], "S1000000000"),
        ([1], "V8"),
        (["1970"], "datetime64[D]"),
        ([300], "uint8"),
        ([[1], []], "int8"),
    ):
        with pytest.raises(ConfigError, match="a saved array"):
            registry.array_from(values, dtype)


def test_a_file_calls_functions_of_one_kind_alone():
    assert registry.saved_function("ops", "ops.add") is lm.ops.add
    for key in ("layers.Dense", "activations.relu", "losses.MeanSquaredError"):
        with pytest.raises(ConfigError, match="not one of Lamina's ops"):
            registry.saved_function("ops", key)
    for key in (None, 3, ["ops.add"], "ops", "", "add"):
        with pytest.raises(ConfigError, match=r"saved by its name|not registered"):
            registry.saved_function("ops", key)

    def mine(x):
        return x

    with lm.custom_objects({"mine": mine}):
        assert registry.saved_function("ops", "custom.mine") is mine
