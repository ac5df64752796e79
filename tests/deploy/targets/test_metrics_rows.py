from bentos.model_server.metrics import Metrics
from bentos.model_server.session import Scored
from deploy.targets.metrics_text import counters


def test_the_squares_of_requests_rows_are_read_from_a_servers_metrics() -> None:
    metrics = Metrics(None)
    for labels in (["a"], ["a", "b", "b"]):
        metrics.predicted(Scored(labels, None))
    found = counters(metrics.exposition()[0].decode())
    assert found.rows_squared == 10
    assert found.predictions == {"a": 2, "b": 2}
