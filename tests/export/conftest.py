"""The toy model of the tests of int8 files, and its plan. Tests of other files have models of their own."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from edgevl.models import VqaModel
    from edgevl.plans.plan import Plan


@pytest.fixture(scope="session")
def model() -> "VqaModel":
    from int8_plans import toy  # pyright: ignore[reportMissingImports]  it needs torchao

    return toy()


@pytest.fixture(scope="session")
def plan(model: "VqaModel") -> "Plan":
    from int8_plans import plan_of  # pyright: ignore[reportMissingImports]

    return plan_of(model)
