"""Release policies: what is refused, and which one counts."""

from pathlib import Path

import pytest

from serving_config.load import ConfigurationError, load
from tests.serving_config.conftest import Write

IMPOSSIBLE = {
    "release: {production: {steps: [50, 25]}}": "must rise",
    "release: {production: {steps: [50, 50]}}": "must rise",
    "release: {production: {steps: []}}": "steps",
    "release: {production: {steps: [0, 50]}}": "steps.0",
    "release: {production: {steps: [50, 100]}}": "steps.1",
    "release: {production: {steps: [.nan]}}": "steps.0",
    "release: {production: {min_seconds: 60, max_seconds: 30}}": "no step could ever pass",
    "release: {production: {policy: direct, shadow: {}}}": "shadow is for the policy canary",
    "release: {production: {policy: rolling}}": "policy",
    "release: {production: {analysis: {false_rollback_probability: 0}}}": "greater than 0",
    "release: {production: {health: {max_error_rate: .inf}}}": "max_error_rate",
    "release: {nowhere: {}}": "release: 'nowhere' is none of",
    "release: {production: {shadow: {shares: 1}}}": "allowed keys: max_disagreement",
}


@pytest.mark.parametrize(("text", "reason"), IMPOSSIBLE.items(), ids=IMPOSSIBLE)
def test_an_impossible_policy_is_refused_with_its_reason(
    text: str, reason: str, write: Write
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(write("models/iris.yaml", text), {})
    assert reason in str(refused.value)
    assert "iris.yaml" in str(refused.value)


def test_a_models_own_policy_goes_before_its_environments(write: Write) -> None:
    folder: Path = write("environments/production.yaml", "release: {policy: blue_green}")
    write("models/iris.yaml", "release: {production: {policy: canary}}")
    configuration = load(folder, {})
    assert configuration.release_policy("production", "iris").policy == "canary"
    assert configuration.release_policy("production", "spam-detector").policy == "blue_green"
    assert configuration.release_policy("staging", "iris").policy == "direct"


def test_what_a_model_leaves_out_is_its_environments(write: Write) -> None:
    folder = write(
        "environments/production.yaml",
        "release: {policy: canary, steps: [1, 2], health: {max_error_rate: 0.5, p99_ms: 70}}",
    )
    write("models/iris.yaml", "release: {production: {min_requests: 7, health: {p99_ms: 80}}}")
    found = load(folder, {}).release_policy("production", "iris")
    assert (found.policy, found.steps, found.min_requests) == ("canary", (1, 2), 7)
    assert (found.health.max_error_rate, found.health.p99_ms) == (0.5, 80)


def test_a_models_policy_that_its_environments_makes_impossible_is_refused(write: Write) -> None:
    folder = write("environments/production.yaml", "release: {policy: canary, shadow: {}}")
    write("models/iris.yaml", "release: {production: {policy: direct}}")
    with pytest.raises(ConfigurationError) as refused:
        load(folder, {})
    assert "models/iris.yaml: release.production" in str(refused.value)
    assert "shadow is for the policy canary" in str(refused.value)


def test_no_message_shows_a_secret(write: Write) -> None:
    for variable in ("SLIPWAY_LEDGER_URL", "SLIPWAY_ALERT_WEBHOOK_URL"):
        with pytest.raises(ConfigurationError) as refused:
            load(write("platform.yaml", "default_model: iris"), {variable: "mysql://me:s3cret@db"})
        assert "s3cret" not in str(refused.value)


SHADOWED = "{policy: canary, shadow: {}}"


@pytest.mark.parametrize("target", ["kubernetes", "kserve"])
@pytest.mark.parametrize("by", ["the environment", "the model", "the variable"])
def test_copies_whose_answers_nobody_can_compare_are_refused(
    write: Write, by: str, target: str
) -> None:
    environment = f"target: {target}\n" if by != "the variable" else ""
    if by == "the model":
        folder = write("environments/production.yaml", environment)
        write("models/iris.yaml", f"release: {{production: {SHADOWED}}}")
        key = "models/iris.yaml: release.production.shadow"
    else:
        folder = write("environments/production.yaml", f"{environment}release: {SHADOWED}")
        key = "environments/production.yaml: release.shadow"
    variables = {"SLIPWAY_TARGET": target} if by == "the variable" else {}
    with pytest.raises(ConfigurationError) as refused:
        load(folder, variables)
    assert f"{key}: with `target: {target}`" in str(refused.value)
    assert "leave `shadow` out" in str(refused.value)


def test_a_model_may_do_without_copies_where_others_have_them(write: Write) -> None:
    write("environments/staging.yaml", f"release: {SHADOWED}")
    folder = write("environments/production.yaml", "target: kubernetes")
    load(write("models/iris.yaml", "release: {production: {policy: canary}}"), {})
    assert load(folder, {}).release_policy("staging", "iris").shadow is not None
