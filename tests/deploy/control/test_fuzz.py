"""Whatever is sent, the answer is one that `/v1/openapi.json` documents, and no 500."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.deploy.control.controls import Running, build

load_all_checks()
CHECKS = (status_code_conformance, content_type_conformance, response_schema_conformance)
GENERATION = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_every_route_answers_as_documented(api: Running, mode: schemathesis.GenerationMode) -> None:
    """Positive: what the schema allows; negative: what it does not."""
    one, two, _ = (build(api.control.home, number) for number in (1, 2, 3))
    for environment in ("staging", "production"):
        api.serve(one.live(90), two.live(10), environment=environment)
    api.control.observer.tick()
    schema = schemathesis.openapi.from_asgi("/v1/openapi.json", api.app)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 12
    for operation in operations:

        @GENERATION
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case) -> None:
            case.headers = {**(case.headers or {}), "X-API-Key": api.key}
            answer = case.call_and_validate(checks=list(CHECKS))
            assert answer.status_code != 500

        try:
            check()
        except Unsatisfiable:  # a GET without parameters has nothing to get wrong
            assert operation.method == "get"
