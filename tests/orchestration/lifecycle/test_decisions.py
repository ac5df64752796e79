from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bentos.model_server.certificate import Certificate
from orchestration.defs.lifecycle.decisions import (
    Cursor,
    Decision,
    may_predict_otherwise,
    new_versions,
    promotes_itself,
)
from orchestration.resources.registry import FoundVersion
from serving_config.release import ReleasePolicy, Shadow
from serving_config.schema import Model
from tests.deploy.releases import certificate, contract, http

IRIS = Model(name="iris")
SPAM = Model(name="spam-detector", registered_model="Spam Detector")
MODELS = [IRIS, SPAM]


@dataclass
class Registry:
    """What MLflow has: registered model → version → whether its files are there."""

    versions: dict[str, dict[int, bool]] = field(default_factory=dict)

    def tick(self, cursor: Cursor) -> Decision:
        """As the sensor asks it: only for what lies above the cursor."""
        found = {
            model.name: [
                FoundVersion(version, ready)
                for version, ready in self.versions[model.registered_model].items()
                if version > cursor.seen.get(model.registered_model, 0)
            ]
            for model in MODELS
            if model.registered_model in self.versions
        }
        return new_versions(cursor, sorted(self.versions), found, MODELS)


def test_a_model_that_is_met_first_starts_with_its_newest_version_and_lists_all() -> None:
    decision = Registry({"iris": {1: True, 2: True, 3: True}}).tick(Cursor())
    assert decision.requests == [("iris", 3)]
    assert decision.partitions == {"iris": [1, 2, 3]}
    assert decision.cursor.seen == {"iris": 3}


def test_after_that_every_new_version_is_taken_on_also_those_nobody_looked_for() -> None:
    registry = Registry({"iris": dict.fromkeys(range(1, 6), True)})
    decision = registry.tick(Cursor({"iris": 2}))
    assert decision.requests == [("iris", 3), ("iris", 4), ("iris", 5)]
    assert decision.partitions == {"iris": [3, 4, 5]}


def test_a_version_whose_files_are_still_coming_keeps_those_after_it_waiting() -> None:
    registry = Registry({"iris": {3: True, 4: False, 5: True}})
    first = registry.tick(Cursor({"iris": 2}))
    assert first.requests == [("iris", 3)]
    assert first.notes == ["iris version 4 is not ready yet: waiting"]
    registry.versions["iris"][4] = True
    assert registry.tick(first.cursor).requests == [("iris", 4), ("iris", 5)]


def test_a_model_is_found_by_its_name_in_the_registry() -> None:
    decision = Registry({"Spam Detector": {7: True}}).tick(Cursor())
    assert decision.requests == [("spam-detector", 7)]
    assert decision.cursor.seen == {"Spam Detector": 7}


def test_nothing_new_asks_for_nothing_and_leaves_the_cursor() -> None:
    cursor = Cursor({"iris": 3})
    decision = Registry({"iris": {1: True, 3: True}}).tick(cursor)
    assert (decision.requests, decision.partitions, decision.notes) == ([], {}, [])
    assert decision.cursor == cursor


def test_a_deleted_version_is_not_missed() -> None:
    assert Registry({"iris": {5: True}}).tick(Cursor({"iris": 3})).requests == [("iris", 5)]


def test_a_model_that_nobody_configured_is_noted_once_and_again_when_it_comes_back() -> None:
    registry = Registry({"rose": {1: True}})
    note = "registered model 'rose' is ignored: no serving_config/models/*.yaml names it"
    first = registry.tick(Cursor())
    assert (first.notes, first.requests) == ([note], [])
    second = registry.tick(first.cursor)
    assert (second.notes, second.cursor) == ([], first.cursor)
    gone = Registry().tick(second.cursor)
    assert registry.tick(gone.cursor).notes == [note]


def test_a_decision_does_not_change_the_cursor_it_was_given() -> None:
    cursor = Cursor({"iris": 1}, ["rose"])
    Registry({"iris": {2: True}}).tick(cursor)
    assert cursor == Cursor({"iris": 1}, ["rose"])


EVENTS = st.lists(
    st.one_of(
        st.tuples(
            st.just("register"),
            st.sampled_from(["iris", "Spam Detector", "rose"]),
            st.booleans(),
        ),
        st.tuples(st.just("files arrive"), st.integers(0, 20)),
        st.tuples(st.just("tick")),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(events=EVENTS)
def test_after_first_contact_no_version_is_lost_and_none_is_asked_for_twice(
    events: list[tuple[object, ...]],
) -> None:
    registry, cursor = Registry(), Cursor()
    requested: list[tuple[str, int]] = []
    listed: list[tuple[str, int]] = []
    for kind, *arguments in [*events, ("tick",)]:
        pending = [
            (name, version)
            for name, versions in registry.versions.items()
            for version, ready in versions.items()
            if not ready
        ]
        if kind == "register":
            name, ready = arguments
            versions = registry.versions.setdefault(str(name), {})
            versions[len(versions) + 1] = bool(ready)
        elif kind == "files arrive" and pending:
            name, version = pending[int(str(arguments[0])) % len(pending)]
            registry.versions[name][version] = True
        elif kind == "tick":
            decision = registry.tick(Cursor.read(cursor.write()))
            cursor = decision.cursor
            requested += decision.requests
            listed += [(m, v) for m, found in decision.partitions.items() for v in found]
            assert not {(m, v) for m, v in decision.requests if (m, v) in pending}
    assert len(set(requested)) == len(requested)
    assert len(set(listed)) == len(listed)
    assert set(requested) <= set(listed)
    for model in MODELS:
        versions = registry.versions.get(model.registered_model, {})
        ready = [v for v in versions if all(versions[earlier] for earlier in range(1, v + 1))]
        assert [v for m, v in listed if m == model.name] == ready
        runs = [v for m, v in requested if m == model.name]
        assert runs == ready[len(ready) - len(runs) :]  # all after the first, in order


@settings(deadline=None)
@given(
    seen=st.dictionaries(st.text(), st.integers(0, 2**31)),
    ignored=st.lists(st.text()),
)
def test_a_cursor_is_read_as_it_was_written(seen: dict[str, int], ignored: list[str]) -> None:
    cursor = Cursor(seen, ignored)
    assert Cursor.read(cursor.write()) == cursor
    assert Cursor.read(cursor.write()).write() == cursor.write()


@pytest.mark.parametrize("text", [None, ""])
def test_no_cursor_is_the_first_tick_s(text: str | None) -> None:
    assert Cursor.read(text) == Cursor({}, [])


@pytest.mark.parametrize(
    ("promotion", "proof", "expected"),
    [
        ("auto", certificate(contract(), smoke=http()), True),
        ("auto", certificate(contract()), False),
        ("auto", certificate(contract(), smoke=http(mismatches=1)), False),
        ("auto", certificate(contract(), flips=1, smoke=http()), False),
        ("manual", certificate(contract(), smoke=http()), False),
    ],
)
def test_only_what_is_proved_and_set_to_auto_goes_to_production_by_itself(
    promotion: str, proof: Certificate, expected: bool
) -> None:
    model = Model.model_validate({"name": "iris", "promotion": promotion})
    assert promotes_itself(model, proof) is expected


def test_a_version_that_failed_to_register_holds_nobody_up() -> None:
    found = {"iris": [FoundVersion(2, False, failed=True), FoundVersion(3, True)]}
    decision = new_versions(Cursor({"iris": 1}), ["iris"], found, [Model(name="iris")])
    assert decision.requests == [("iris", 3)]
    assert "version 2 failed to register" in decision.notes[0]


def test_a_version_that_is_better_on_recent_labels_may_predict_otherwise_and_nothing_else() -> None:
    policy = ReleasePolicy(policy="canary", steps=(10, 50), shadow=Shadow(share=30))
    freed = may_predict_otherwise(policy)
    assert freed.shadow is not None
    assert freed.shadow.share == 30
    assert (freed.replay.max_disagreement, freed.shadow.max_disagreement) == (1.0, 1.0)
    assert freed.analysis.max_prediction_shift == 1.0
    assert freed.analysis.max_error_increase == policy.analysis.max_error_increase
    assert (freed.health, freed.steps, freed.replay.rows) == (
        policy.health,
        policy.steps,
        policy.replay.rows,
    )
