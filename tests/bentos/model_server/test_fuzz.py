"""Whatever is sent, the answer is one that `/openapi.json` documents, and never a 5xx."""

from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from bentos.model_server.bundle import Limits
from tests.bentos.model_server import models
from tests.bentos.model_server.clients import served

load_all_checks()
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)


@pytest.fixture(scope="module", params=[models.iris, models.spam, models.petal_width, models.mixed])
def api(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[schemathesis.BaseSchema]:
    parts = request.param()
    limits = Limits(max_rows=20, max_body_bytes=1 << 16)
    with served(parts, tmp_path_factory.mktemp("fuzz"), limits) as (port, _):
        address = f"http://127.0.0.1:{port}"
        document = httpx.get(f"{address}/openapi.json").json()
        schema = schemathesis.openapi.from_dict(document)
        schema.config.update(base_url=address)
        yield schema


GENERATION = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_every_route_answers_as_documented(
    api: schemathesis.BaseSchema, mode: schemathesis.GenerationMode
) -> None:
    """Positive: what the schema allows; negative: what it does not."""
    operations = [found.ok() for found in api.get_all_operations()]
    assert len(operations) > 10
    for operation in operations:

        @GENERATION
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=list(CHECKS))

        try:
            check()
        except Unsatisfiable:  # a GET without parameters has nothing to get wrong
            assert operation.method == "get"
