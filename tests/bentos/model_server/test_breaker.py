from bentos.model_server.breaker import FAILURES, RETRY_SECONDS, Breaker


def test_one_look_up_at_a_time_tries_whether_redis_is_back() -> None:
    now = [0.0]
    breaker = Breaker("here", lambda: now[0])
    for _ in range(FAILURES):
        assert [breaker.allows(), breaker.allows()] == [True, True]
        breaker.failed(OSError())
    assert not breaker.allows()
    now[0] = RETRY_SECONDS
    assert [breaker.allows(), breaker.allows()] == [True, False]
    breaker.failed(OSError())
    now[0] *= 2
    assert breaker.allows()
    breaker.succeeded()
    assert [breaker.allows(), breaker.allows()] == [True, True]


def test_failures_between_successes_are_no_outage() -> None:
    breaker = Breaker("here")
    for _ in range(3 * FAILURES):
        breaker.failed(TimeoutError())
        breaker.succeeded()
    assert breaker.allows()
    assert not breaker.open
