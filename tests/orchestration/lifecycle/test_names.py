from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.cli import models as cli_models
from orchestration.cli.platform import job_name
from orchestration.defs.lifecycle.names import ACTOR_TAG, POLICY_TAG, Names

MODELS = st.from_regex(r"[a-z][a-z0-9-]{0,62}", fullmatch=True)


@settings(deadline=None)
@given(model=MODELS)
def test_the_command_and_dagster_call_the_jobs_the_same(model: str) -> None:
    assert job_name(model, "staging") == Names(model).lifecycle_job
    assert job_name(model, "production") == Names(model).promotion_job


@settings(deadline=None)
@given(model=MODELS)
def test_jobs_groups_and_pools_are_identifiers(model: str) -> None:
    names = Names(model)
    jobs = (names.lifecycle_job, names.promotion_job, names.rollback_job)
    for name in (names.identifier, *jobs, names.pool("staging"), names.pool("production")):
        assert name.isidentifier()
    assert names.partitions.name == f"{model}_versions"
    assert names.asset("bento").path == [model, "bento"]


@settings(deadline=None)
@given(one=MODELS, other=MODELS)
def test_no_two_models_share_a_name(one: str, other: str) -> None:
    first, second = Names(one), Names(other)
    jobs = {first.lifecycle_job, first.promotion_job, second.lifecycle_job, second.promotion_job}
    assert len(jobs) == (2 if one == other else 4)


def test_the_command_and_dagster_call_the_tags_the_same() -> None:
    assert (cli_models._ACTOR_TAG, cli_models._POLICY_TAG) == (ACTOR_TAG, POLICY_TAG)
