"""Requests by entities through the whole platform, and what the audit says of them."""

import json
from typing import Any

import httpx
import pytest

from tests.end_to_end.harness import Checkout, wait_for

LAUNCH = """
mutation($job: String!) {
  launchRun(executionParams: {selector: {repositoryLocationName: "slipway",
      repositoryName: "__repository__", jobName: $job}}) {
    __typename ... on LaunchRunSuccess { run { runId } }
  }
}
"""
AUDIT = """
query($model: String!) {
  assetOrError(assetKey: {path: [$model, "feature_audit"]}) {
    ... on Asset {
      assetMaterializations(limit: 1) {
        runId metadataEntries { label ... on IntMetadataEntry { intValue } }
      }
    }
  }
}
"""
BODIES: dict[str, list[dict[str, Any]]] = {
    "customer-churn": [{"entities": {"customer_id": number}} for number in range(1, 61)],
    "spam-detector": [
        {
            "entities": {"sender": f"sender-{number:03d}@example.com"},
            "features": {
                "email_content": f"FREE offer nr. {number}! See http://example.com/{number}"
            },
        }
        for number in range(60)
    ],
}


def dagster(platform: Checkout, query: str, **variables: str) -> Any:
    answer = httpx.post(
        f"{platform.url('dagster')}/graphql",
        json={"query": query, "variables": variables},
        timeout=60,
    )
    return answer.raise_for_status().json()["data"]


@pytest.mark.parametrize("model", BODIES)
def test_what_is_served_of_entities_equals_the_offline_store(
    platform: Checkout, model: str
) -> None:
    asked = set()
    for body in BODIES[model]:
        answer = platform.ask(model, body)
        assert answer.status_code == 200, answer.text
        assert {view["status"] for view in answer.json()["features"].values()} == {"present"}
        asked.add(answer.json()["request_id"])

    def logged() -> bool:
        found = platform.must("predictions", model, "--limit", "100000", "--json")
        return asked <= {row["request_id"] for row in json.loads(found)}

    wait_for(logged, "the answers in the log")
    launched = dagster(platform, LAUNCH, job=f"{model.replace('-', '_')}_feature_audit")
    run = launched["launchRun"]["run"]["runId"]

    def audited() -> dict[str, int] | None:
        status = platform.dagster.run(run)
        assert status.status not in ("FAILURE", "CANCELED"), status.error
        (asset,) = [dagster(platform, AUDIT, model=model)["assetOrError"]]
        for found in asset.get("assetMaterializations", []):
            if found["runId"] == run:
                return {e["label"]: e.get("intValue") for e in found["metadataEntries"]}
        return None

    counts = wait_for(audited, "the audit")
    assert counts["differences"] == 0
    assert counts["rows"] >= len(asked)
    assert counts["values_compared"] >= 9 * len(asked)


def test_an_entity_that_nobody_knows_is_refused_by_its_name(platform: Checkout) -> None:
    answer = platform.ask("customer-churn", {"entities": {"customer_id": 987654321}})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    (field,) = {error["field"] for error in answer.json()["errors"]}
    assert field == "entities.customer_id"
    assert "987654321" in answer.text
