import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.control.alert import Alert
from deploy.control.payloads import escaped, slack
from deploy.control.webhooks import Patience, Webhook, Webhooks, retry_after
from deploy.processes import free_port
from serving_config.load import load
from tests.deploy.control.receivers import Receiver, receiver

QUICK = Patience(attempt=2, first_pause=0.01, longest_pause=0.02, give_up=5, waiting=100)
FIRED = Alert(
    state="firing",
    labels={"alertname": "HighErrorRate", "severity": "critical", "model": "iris"},
    annotations={"summary": "s", "description": "d", "runbook_url": "docs/alerts.md#x"},
    since="2026-01-01T00:00:00.000+00:00",
    starts_at="2026-01-01T00:00:15.000+00:00",
)


def numbered(number: int) -> Alert:
    return Alert(
        state="firing",
        labels={"alertname": str(number)},
        annotations=FIRED.annotations,
        since=FIRED.since,
    )


@contextmanager
def webhook(to: Receiver | str, patience: Patience = QUICK) -> Iterator[Webhook]:
    url = to if isinstance(to, str) else to.url
    made = Webhook("test", url, lambda alert: {"name": alert.labels["alertname"]}, patience)
    try:
        yield made
    finally:
        made.close(5)


def until(done: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_receiver_that_fails_at_first_gets_the_message_in_the_end(status: int) -> None:
    with receiver((status, {}), (status, {})) as server, webhook(server) as sender:
        sender.send(FIRED)
        assert server.wait_for(lambda got: len(got) == 3) == [{"name": "HighErrorRate"}] * 3
        until(lambda: sender.sent.delivered == 1)


@pytest.mark.parametrize("status", [400, 404, 410])
def test_a_refusal_is_final(status: int) -> None:
    with receiver((status, {})) as server, webhook(server) as sender:
        sender.send(FIRED)
        until(lambda: sender.sent.given_up == 1)
        assert len(server.got) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with (
        receiver() as elsewhere,
        receiver((status, {"location": elsewhere.url})) as server,
        webhook(server) as sender,
    ):
        sender.send(FIRED)
        until(lambda: sender.sent.given_up == 1)
        assert (len(server.got), elsewhere.got) == (1, [])


def test_messages_stay_in_order_while_the_first_ones_fail() -> None:
    with receiver(*[(503, {})] * 5) as server, webhook(server) as sender:
        for number in range(20):
            sender.send(numbered(number))
        got = server.wait_for(lambda got: got[-1:] == [{"name": "19"}])
    names = [item["name"] for item in got]
    assert names == ["0"] * 5 + [str(number) for number in range(20)]


def test_retry_after_is_respected() -> None:
    with receiver((429, {"retry-after": "1"})) as server, webhook(server) as sender:
        begun = time.monotonic()
        sender.send(FIRED)
        server.wait_for(lambda got: len(got) == 2)
        assert time.monotonic() - begun >= 1


def test_one_that_wants_the_message_too_late_does_not_get_it() -> None:
    with receiver((503, {"retry-after": "9" * 40})) as server, webhook(server) as sender:
        sender.send(FIRED)
        until(lambda: sender.sent.given_up == 1)
        assert len(server.got) == 1


def test_a_dead_receiver_is_given_up_after_a_while() -> None:
    patience = Patience(attempt=1, first_pause=0.01, longest_pause=0.02, give_up=0.3)
    with webhook(f"http://127.0.0.1:{free_port()}/", patience) as sender:
        sender.send(FIRED)
        until(lambda: sender.sent.given_up == 1)


def test_a_receiver_that_hangs_holds_up_neither_the_sender_nor_the_other_receiver() -> None:
    shipped = load(variables={}).platform
    with receiver(threading.Event()) as hanging, receiver() as well:
        alerts = shipped.alerts.model_copy(
            update={"webhook_url": hanging.url, "slack_webhook_url": well.url}
        )
        senders = Webhooks(shipped.model_copy(update={"alerts": alerts}))
        begun = time.monotonic()
        for _ in range(1500):
            senders.send(FIRED)
        assert time.monotonic() - begun < 5
        assert senders.receivers[0].sent.dropped >= 499
        well.wait_for(lambda got: len(got) >= 100)
        begun = time.monotonic()
        senders.close()
        assert time.monotonic() - begun < 3


def test_a_receiver_that_does_not_answer_in_time_is_asked_again() -> None:
    patience = Patience(attempt=0.2, first_pause=0.01, give_up=10)
    with receiver(threading.Event()) as server, webhook(server, patience) as sender:
        sender.send(FIRED)
        server.wait_for(lambda got: len(got) == 2)
        until(lambda: sender.sent.delivered == 1)


def test_at_the_end_what_waits_is_tried_once_more() -> None:
    with receiver((503, {})) as server:
        sender = Webhook("test", server.url, lambda _: {}, Patience(first_pause=60, give_up=600))
        sender.send(FIRED)
        server.wait_for(lambda got: len(got) == 1)
        sender.close(5)
        assert (len(server.got), sender.sent.delivered) == (2, 1)


def test_the_log_never_has_the_address(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with receiver((302, {}), (404, {})) as server, webhook(server) as sender:
        for _ in range(3):
            sender.send(FIRED)
        until(lambda: (sender.sent.given_up, sender.sent.delivered) == (2, 1))
    with webhook("http://127.0.0.1:99999/secret-path") as broken:
        broken.send(FIRED)
        until(lambda: broken.sent.given_up == 1)
    lost = [line for line in caplog.messages if "is lost" in line]
    assert len(lost) == 3
    assert "secret" not in caplog.text


def test_alertmanagers_json_has_what_its_readers_expect() -> None:
    shipped = load(variables={}).platform
    with receiver() as server:
        alerts = shipped.alerts.model_copy(update={"webhook_url": server.url})
        senders = Webhooks(shipped.model_copy(update={"alerts": alerts}))
        senders.send(FIRED)
        (got,) = server.wait_for(lambda got: len(got) == 1)
        senders.close()
    assert (got["version"], got["status"], got["truncatedAlerts"]) == ("4", "firing", 0)
    assert got["commonLabels"] == FIRED.labels
    assert got["groupLabels"] == {"alertname": "HighErrorRate"}
    assert got["externalURL"] == "http://127.0.0.1:8080"
    (alert,) = got["alerts"]
    assert (alert["startsAt"], alert["endsAt"]) == (FIRED.starts_at, "0001-01-01T00:00:00Z")
    assert alert["labels"] == FIRED.labels
    assert alert["annotations"] == FIRED.annotations
    assert alert["fingerprint"] == FIRED.fingerprint
    assert len(alert["fingerprint"]) == 16


@given(st.text(max_size=5000), st.sampled_from(["firing", "resolved"]))
def test_slack_gets_no_markup_of_others_and_no_more_than_it_takes(text: str, state: Any) -> None:
    words = {"summary": text, "description": text + "<!channel>", "runbook_url": ""}
    alert = Alert(state=state, labels=FIRED.labels, annotations=words, since="")
    message = slack(alert, "")
    (attachment,) = message["attachments"]
    said = attachment["blocks"][0]["text"]["text"]
    for part in (message["text"], said):
        assert len(part) < 3000
        assert "<" not in part
        assert ">" not in part
    assert attachment["color"] == ("#2e8b57" if state == "resolved" else "#c0392b")
    assert escaped(text[:100]) in said


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), (" 0 ", 0.0), (None, None), ("soon", None), ("-3", None), ("", None)],
)
def test_retry_after_in_seconds(value: str | None, seconds: float | None) -> None:
    assert retry_after(value) == seconds


def test_retry_after_as_a_date() -> None:
    assert retry_after(formatdate(1000, usegmt=True), now=lambda: 990) == 10
    assert retry_after(formatdate(1000, usegmt=True), now=lambda: 1990) == 0
