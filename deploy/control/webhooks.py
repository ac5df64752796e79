"""Alerts to their receivers, in threads of their own: slow or dead receivers hold up nobody."""

import email.utils
import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx

from deploy.control.alert import Alert
from deploy.control.payloads import alertmanager, slack
from serving_config.schema import Platform

logger = logging.getLogger("slipway.webhooks")


@dataclass(frozen=True)
class Patience:
    """Seconds: of one attempt, between two at first and at most, and until a message is too old.
    waiting: messages of one receiver."""

    attempt: float = 5
    first_pause: float = 1
    longest_pause: float = 30
    give_up: float = 300
    waiting: int = 1000


@dataclass
class Sent:
    """What became of the messages of one receiver."""

    taken: int = 0
    delivered: int = 0
    given_up: int = 0
    dropped: int = 0


class Webhook:
    """One receiver. Its messages go out in the order they came, one at a time.

    No line of the log has its URL, which is a secret.
    """

    def __init__(
        self,
        name: str,
        url: str,
        payload: Callable[[Alert], dict[str, Any]],
        patience: Patience = Patience(),
    ) -> None:
        # Their own lines name the URL of each request.
        for library in ("httpx", "httpcore"):
            logging.getLogger(library).setLevel(logging.WARNING)
        self.sent = Sent()
        self._name, self._url, self._payload, self._patience = name, url, payload, patience
        self._queue: queue.Queue[tuple[float, Alert] | None] = queue.Queue(patience.waiting)
        self._stop, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"webhook-{name}", daemon=True)
        self._thread.start()

    def send(self, alert: Alert) -> None:
        """Take a message; one that finds the queue full is dropped and counted, and the first of
        a hundred logged."""
        try:
            self._queue.put_nowait((time.monotonic(), alert))
            self.sent.taken += 1
        except queue.Full:
            self.sent.dropped += 1
            if self.sent.dropped % 100 == 1:
                self._lost(alert, f"{self._patience.waiting} others wait already")

    def close(self, seconds: float = 1.0) -> None:
        """Try what waits once more, for that long at most."""
        self._stop.set()
        with suppress(queue.Full):  # then the thread ends with the last message
            self._queue.put_nowait(None)
        self._thread.join(seconds)
        self._over.set()
        if left := self.sent.taken - self.sent.delivered - self.sent.given_up:
            logger.warning("webhook %s: %d messages are lost at the end", self._name, left)

    def _run(self) -> None:
        with httpx.Client(timeout=self._patience.attempt, follow_redirects=False) as client:
            while (item := self._queue.get()) is not None:
                try:
                    self._deliver(client, *item)
                except Exception as error:  # the next message has its chance
                    self.sent.given_up += 1
                    self._lost(item[1], type(error).__name__)
                if self._over.is_set() or (self._stop.is_set() and self._queue.empty()):
                    return

    def _deliver(self, client: httpx.Client, since: float, alert: Alert) -> None:
        pause = self._patience.first_pause
        while True:
            last = self._stop.is_set()
            failure, again, wanted = self._post(client, alert)
            if not failure:
                self.sent.delivered += 1
                return
            wait = pause if wanted is None else wanted
            too_late = time.monotonic() + wait - since > self._patience.give_up
            if not again or too_late or last:
                self.sent.given_up += 1
                self._lost(alert, failure)
                return
            self._stop.wait(wait)
            pause = min(pause * 2, self._patience.longest_pause)

    def _post(self, client: httpx.Client, alert: Alert) -> tuple[str, bool, float | None]:
        """What went wrong or nothing, whether to try again, and when the receiver wants it."""
        try:
            # The body is nobody's, and may be endless: it is not read.
            with client.stream("POST", self._url, json=self._payload(alert)) as answer:
                status, headers = answer.status_code, answer.headers
        except (httpx.TransportError, httpx.TimeoutException) as error:
            return type(error).__name__, True, None
        if status < httpx.codes.MULTIPLE_CHOICES:
            return "", False, None
        again = status == httpx.codes.TOO_MANY_REQUESTS or status >= 500
        return f"it answers {status}", again, retry_after(headers.get("retry-after"))

    def _lost(self, alert: Alert, why: str) -> None:
        name = alert.labels["alertname"]
        logger.error("webhook %s: %s (%s) is lost: %s", self._name, name, alert.state, why)


class Webhooks:
    """All receivers of the settings; `send` is what Alerting wants."""

    def __init__(self, platform: Platform) -> None:
        found = {
            "alertmanager": (platform.alerts.webhook_url, alertmanager),
            "slack": (platform.alerts.slack_webhook_url, slack),
        }
        self.receivers = [
            Webhook(name, url, partial(payload, external_url=platform.gateway.url))
            for name, (url, payload) in found.items()
            if url is not None
        ]

    def send(self, alert: Alert) -> None:
        """To every receiver; never blocks."""
        for receiver in self.receivers:
            receiver.send(alert)

    def close(self) -> None:
        """Try what waits for a second in all."""
        ends = time.monotonic() + 1
        for receiver in self.receivers:
            receiver.close(max(0.0, ends - time.monotonic()))


def retry_after(value: str | None, now: Callable[[], float] = time.time) -> float | None:
    """Seconds that a Retry-After asks for: a number, or a date. None where it says nothing."""
    if value is None:
        return None
    if value.strip().isdecimal() and value.isascii():
        return float(value[:12])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now())
    except (TypeError, ValueError, OverflowError):
        return None
