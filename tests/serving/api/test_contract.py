"""schemathesis reads the OpenAPI document and sends what it says, and what it forbids."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.serving.helpers import Running

EXAMPLES = 8
"""Of each operation and kind; the same in every run (tests/conftest.py)."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_every_answer_is_one_that_is_described_and_none_is_our_fault(
    server: Running, mode: GenerationMode
) -> None:
    url = str(server.client.base_url)
    found = schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations()
    tried = 0
    for result in found:
        assert isinstance(result, Ok)
        operation = result.ok()
        if mode is GenerationMode.NEGATIVE and not operation.body:
            continue  # a path that is another one is not described

        @settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            nonlocal tried
            tried += 1
            case.call_and_validate(checks=CHECKS)

        ask()
    assert tried > EXAMPLES
