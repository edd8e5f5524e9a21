import pytest

from tests.golden.make_dense import CASES
from tests.layers.golden import check


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_keras(case):
    check(case, "dense")
