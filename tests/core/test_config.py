"""The settings of the process."""

import pytest

import lamina as lm
from lamina.core.errors import ConfigError


@pytest.fixture(autouse=True)
def _policy_of_before():
    before = lm.config.dtype_policy
    yield
    lm.config.dtype_policy = before


def test_a_policy_may_be_assigned_by_its_name():
    lm.config.dtype_policy = "mixed_bfloat16"
    layer = lm.layers.Dense(2)
    assert (layer.compute_dtype, layer.variable_dtype) == ("bfloat16", "float32")
    lm.config.dtype_policy = lm.layers.Dense(2, dtype="float64").dtype_policy
    assert lm.layers.Dense(2).compute_dtype == "float64"


def test_an_unknown_policy_is_refused_where_it_is_assigned():
    with pytest.raises(ConfigError, match="'mixed_bfloat61' is not a dtype policy"):
        lm.config.dtype_policy = "mixed_bfloat61"
    assert lm.config.dtype_policy.name == "float32"


@pytest.mark.parametrize("wrong", [3, ["mixed_bfloat16"]])
def test_what_is_no_policy_is_refused_by_what_it_is(wrong):
    with pytest.raises(ConfigError, match="a dtype policy is the name of one"):
        lm.config.dtype_policy = wrong
