"""The examples on features, as the lifecycle exports and proves them."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from bentos.model_server.certificate import Limits
from bentos.model_server.contract import FeatureSource
from bentos.model_server.session import ModelSession
from orchestration.examples import churn, spam
from orchestration.examples.registration import REFERENCE
from orchestration.export import export, load_native
from orchestration.export.feature_source import described, feature_source
from orchestration.training import RegisteredVersion, mlflow_client
from orchestration.verify import advice, verify
from tests.orchestration.examples.conftest import SHIPPED

Download = Callable[[str, RegisteredVersion], Path]


@pytest.mark.parametrize("name", ["customer-churn", "spam-detector"])
def test_a_version_fits_its_feature_service_and_is_exported_exactly(
    name: str,
    request: pytest.FixtureRequest,
    registry: str,
    download: Download,
    features: Path,
    tmp_path: Path,
) -> None:
    fixture = {"customer-churn": "churn_version", "spam-detector": "spam_version"}[name]
    version: RegisteredVersion = request.getfixturevalue(fixture)
    model = SHIPPED[name]
    native = load_native(download(registry, version), model.trusted_types)
    source = feature_source(model, native.signature.fields, described(features, model))
    exported = export(native, model, version.version, feature_source=source)
    client = mlflow_client(registry)
    reference = client.download_artifacts(version.run_id, REFERENCE, str(tmp_path))
    session = ModelSession(exported.model, exported.contract)
    certificate = verify(native, session, pd.read_parquet(reference), Limits())
    assert certificate.parity.passed, advice(certificate)
    assert max(c.max_abs_diff for c in certificate.parity.comparisons) < 1e-12
    assert min(c.rows for c in certificate.parity.comparisons) > 100
    assert exported.contract.feature_source == source


def test_the_services_provide_all_but_the_text(
    churn_version: RegisteredVersion,
    spam_version: RegisteredVersion,
    registry: str,
    download: Download,
    features: Path,
) -> None:
    found: dict[str, FeatureSource | None] = {}
    for version in (churn_version, spam_version):
        model = SHIPPED[version.name]
        fields = load_native(download(registry, version)).signature.fields
        found[version.name] = feature_source(model, fields, described(features, model))
    on_churn, on_spam = found["customer-churn"], found["spam-detector"]
    assert on_churn is not None
    assert on_spam is not None
    assert (on_churn.provided, on_churn.request) == (churn.COLUMNS, ())
    assert (on_spam.provided, on_spam.request) == ((*spam.SENDER, *spam.STATISTICS), (spam.TEXT,))
    assert [key.name for key in on_churn.entities] == ["customer_id"]
    assert [key.name for key in on_spam.entities] == ["sender"]


def test_the_demo_asks_each_model_for_what_its_request_has_to_say(features: Path) -> None:
    from orchestration.cli.demo import REQUESTS

    assert set(REQUESTS) == set(SHIPPED)
    for name, bodies in REQUESTS.items():
        store = described(features, SHIPPED[name])
        service = SHIPPED[name].feature_service
        for body in bodies:
            if store is None or service is None:
                assert list(body) == ["features"]
                continue
            found = store.service(service)
            assert set(body["entities"]) == {key.name for key in found.entities}
            assert set(body.get("features", ())) == {field.name for field in found.request}
