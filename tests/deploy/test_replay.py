"""A candidate is asked golden rows before any client's: real model servers over HTTP."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from msgspec.structs import replace

from bentos.model_server.answers import version_header
from bentos.model_server.bundle import Bundle, Limits
from bentos.model_server.certificate import Answer, Golden
from bentos.model_server.contract import Contract
from deploy.analysis.verdict import Analysis, Finding
from deploy.events import Live, State
from deploy.ledger import Ledger
from deploy.processes import free_port
from deploy.release import Release
from deploy.replay import Row, replay, replay_gate
from deploy.request import Request
from deploy.targets.base import Endpoint, TargetError
from serving_config.release import ReleasePolicy, Replay
from tests.bentos.model_server.clients import served
from tests.bentos.model_server.models import Parts, iris, iris_tree, petal_width
from tests.deploy.targets.memory import MemoryTarget

STABLE, WRONG, TREE, OTHER_FIELDS = iris(), iris(version=4, turned=True), iris_tree(), petal_width()


def endpoint(port: int, parts: Parts) -> Endpoint:
    label = version_header(parts.contract)
    return Endpoint(f"http://127.0.0.1:{port}", {"X-Model-Version": label})


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Endpoint]]:
    """Where each of the models above is served, by its id."""
    with ExitStack() as stack:
        found = {}
        for parts in (STABLE, WRONG, TREE, OTHER_FIELDS):
            folder = tmp_path_factory.mktemp("model")
            port, _ = stack.enter_context(served(parts, folder))
            found[id(parts)] = endpoint(port, parts)
        yield found


def release(parts: Parts, golden: Golden | None = None) -> Release:
    proof = replace(parts.certificate, golden=golden or parts.certificate.golden)
    bundle = Bundle(parts.contract, proof, Limits(), parts.contract.onnx_sha256, "d" * 64)
    return Release("bento:1", bundle, proof)


def replayed(
    at: dict[int, Endpoint],
    candidate: Parts,
    *,
    stable: Parts | None = STABLE,
    golden: Golden | None = None,
    limits: Replay | None = None,
) -> Analysis:
    return replay(
        at[id(candidate)],
        release(candidate, golden),
        None if stable is None else at[id(stable)],
        None if stable is None else stable.certificate.golden,
        limits or Replay(),
    )


def breached(analysis: Analysis) -> list[Finding]:
    return [finding for finding in analysis.findings if finding.breached]


def test_the_first_version_only_has_to_answer_as_its_certificate_says(
    at: dict[int, Endpoint],
) -> None:
    found = replayed(at, STABLE, stable=None)
    assert found.decision == "promote"
    assert found.reason == "all 15 golden rows came back as the certificate says"
    assert [finding.candidate.total for finding in found.findings] == [15, 15]
    assert found.requests == 16


def test_a_version_that_answers_alike_passes_with_the_numbers(at: dict[int, Endpoint]) -> None:
    found = replayed(at, STABLE, limits=Replay(max_disagreement=0))
    assert found.decision == "promote"
    assert found.reason.endswith("0 of 15 rows differ from the stable version's")
    assert [finding.metric for finding in found.findings[3:]] == ["probability", "latency"]
    assert "mean 0.0000" in found.findings[3].detail
    assert found.findings[3].candidate.count == 0
    assert found.seconds > 0


def test_another_class_on_more_rows_than_the_policy_allows_goes_back(
    at: dict[int, Endpoint],
) -> None:
    found = replayed(at, WRONG, limits=Replay(max_disagreement=0.5))
    assert found.decision == "rollback"
    assert found.reason.startswith("15 of 15 rows differ, over the limit of 50%")
    (finding,) = breached(found)
    assert (finding.candidate.count, finding.candidate.total, finding.limit) == (15, 15, 0.5)


def test_how_much_two_models_disagree_is_counted_row_by_row(at: dict[int, Endpoint]) -> None:
    golden = STABLE.certificate.golden
    rows = [tuple(row.values()) for row in golden.rows]
    differing = sum(
        label != answer.prediction
        for label, answer in zip(TREE.session().predict(rows).labels, golden.single, strict=True)
    )
    found = replayed(at, TREE)
    assert found.decision == "promote"
    assert f"{differing} of 15 rows differ from the stable version's" in found.reason
    assert found.findings[2].candidate.count == differing


def test_own_golden_rows_that_come_back_otherwise_go_back_whatever_the_policy_says(
    at: dict[int, Endpoint],
) -> None:
    golden = STABLE.certificate.golden
    first = golden.single[0]
    assert first.probabilities is not None
    nudged = Answer(first.prediction, tuple(p + 1e-3 for p in first.probabilities))
    found = replayed(at, STABLE, golden=replace(golden, single=(nudged, *golden.single[1:])))
    assert found.decision == "rollback"
    assert "1 of 15 rows differ" in found.reason
    (finding,) = breached(found)
    assert finding.detail == "its own golden rows alone, against its certificate"
    batch = replace(golden, batch=(nudged, *golden.batch[1:]))
    (finding,) = breached(replayed(at, STABLE, golden=batch))
    assert finding.detail == "its own golden rows as one batch, against its certificate"


def test_without_golden_rows_nothing_is_proved(at: dict[int, Endpoint]) -> None:
    found = replayed(at, STABLE, stable=None, golden=Golden((), (), ()))
    assert found.decision == "rollback"
    assert "no golden rows" in found.reason


def test_rows_that_the_candidate_refuses_are_disagreement_and_say_why(
    at: dict[int, Endpoint],
) -> None:
    found = replayed(at, OTHER_FIELDS)
    assert found.decision == "rollback"
    assert "15 of 15 rows differ, over the limit of 50%" in found.reason
    assert "the candidate refuses 15 of 15 rows that the stable version answers: " in found.reason
    assert "petal_width" in found.reason
    allowed = Replay(max_disagreement=1.0)
    assert replayed(at, OTHER_FIELDS, limits=allowed).decision == "promote"


def test_golden_rows_of_its_own_that_it_refuses_go_back(at: dict[int, Endpoint]) -> None:
    found = replayed(at, OTHER_FIELDS, stable=None, golden=STABLE.certificate.golden)
    assert found.decision == "rollback"
    assert "the candidate refuses golden rows of its own: " in found.reason


def test_rows_can_be_given_and_those_that_the_stable_version_refuses_do_not_count(
    at: dict[int, Endpoint],
) -> None:
    rows = [{"no_such_field": 1}, *STABLE.certificate.golden.rows[:2]]
    found = replay(at[id(STABLE)], release(STABLE), at[id(WRONG)], None, Replay(), rows)
    assert found.findings[2].candidate.total == 2


@pytest.mark.parametrize(
    ("logged", "rows", "asked"), [(20, 100, 20), (20, 0, 15), (5, 5, 5), (14, 100, 15), (0, 9, 15)]
)
def test_what_clients_asked_last_takes_the_place_of_the_golden_rows_if_there_is_enough(
    at: dict[int, Endpoint], logged: int, rows: int, asked: int
) -> None:
    class Known(MemoryTarget):
        def endpoint(self, environment: str, model: str, live: Live) -> Endpoint:
            return at[id(WRONG if live.label == "4" else STABLE)]

    stable, candidate = release(STABLE), release(WRONG)
    calls = []

    def last(environment: str, model: str, contract: Contract, count: int) -> list[Row]:
        calls.append((environment, model, contract, count))
        return list(STABLE.certificate.golden.rows[:1]) * logged

    policy = ReleasePolicy(policy="blue_green", replay=Replay(rows=rows))
    request = Request(candidate, "production", "promote", "ann", policy=policy)
    state = State("production", "iris", 1, (stable.live(),))
    with Ledger("sqlite://") as ledger:
        gate = replay_gate(Known(ledger), lambda _live: stable, last)
        found = gate(request, state)
    assert found.findings[2].candidate.total == asked
    wanted = [("production", "iris", STABLE.contract, rows)]
    assert calls == (wanted if rows else [])


def test_another_version_behind_the_address_is_an_error_not_a_verdict(
    at: dict[int, Endpoint],
) -> None:
    with pytest.raises(TargetError, match=r"version 3 answered at .*, not 4"):
        replay(at[id(STABLE)], release(WRONG), None, None, Replay())


@pytest.mark.parametrize("who", ["candidate", "stable"])
def test_nobody_there_is_one_sentence(who: str, at: dict[int, Endpoint]) -> None:
    nobody = endpoint(free_port(), STABLE)
    ends = {"candidate": at[id(STABLE)], "stable": at[id(STABLE)]} | {who: nobody}
    with pytest.raises(TargetError, match=nobody.url) as caught:
        replay(
            ends["candidate"],
            release(STABLE),
            ends["stable"],
            STABLE.certificate.golden,
            Replay(),
        )
    assert "\n" not in str(caught.value)
