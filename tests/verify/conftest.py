"""Fixtures of the verifiers' tests."""

import pytest

from distillpipe.base.errors import MissingDependencyError
from distillpipe.verify.code.sandbox import Sandbox, find_sandbox


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    """The sandbox with its default limits; tests that need it are skipped if there is none."""
    try:
        return find_sandbox()
    except MissingDependencyError as error:
        pytest.skip(str(error))
