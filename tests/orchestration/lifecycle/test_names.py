from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.defs.lifecycle.names import Names

MODELS = st.from_regex(r"[a-z][a-z0-9-]{0,62}", fullmatch=True)


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
