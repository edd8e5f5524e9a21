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
