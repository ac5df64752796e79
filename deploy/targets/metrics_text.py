"""What a model server has counted, out of its own metrics in Prometheus' text format."""

import re
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import msgspec

from deploy.events import Counters
from deploy.gateway.envoy import NO_TLS
from deploy.targets.base import TargetError

_SECONDS = 2.0
_MAX_BYTES = 8 << 20
_NAMES = (
    "slipway_predictions",
    "slipway_request_duration_seconds",
    "slipway_top_probability",
)
_LINE = re.compile(
    r"^(slipway_predictions_total|slipway_rows_squared_total|slipway_(?:request_duration_seconds|top_probability"
    r"|prediction_value)_bucket)(.*)$",
    re.MULTILINE,
)
_SAMPLE = re.compile(r'(?:\{((?:\w+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)')
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
# Counts are whole numbers; a float holds them exactly up to here.
_MOST = 2**53


def scrape(port: int, host: str = "127.0.0.1") -> Counters:
    """Ask the server for its metrics; TargetError where it does not give them."""
    url = f"http://{host}:{port}/metrics"
    try:
        return counters(_text(url))
    except (httpx.HTTPError, UnicodeDecodeError) as error:
        raise TargetError(f"{url} gives no metrics: {error!r}") from error
    except ValueError as error:
        raise TargetError(f"{url} gives metrics that cannot be: {error}") from error


def _text(url: str) -> str:
    """A server may also send its body a byte a second: the deadline is for all of it."""
    deadline = time.monotonic() + _SECONDS
    content = bytearray()
    with httpx.stream("GET", url, timeout=_SECONDS, verify=NO_TLS, trust_env=False) as response:
        if response.status_code != httpx.codes.OK:
            raise TargetError(f"{url} answers {response.status_code}, not with metrics")
        for part in response.iter_bytes():
            content += part
            if time.monotonic() > deadline:
                raise TargetError(f"{url} did not come whole within {_SECONDS:g} s")
            if len(content) > _MAX_BYTES:
                raise TargetError(f"{url} is larger than {_MAX_BYTES} bytes")
    return content.decode()


def counters(text: str) -> Counters:
    """Without what only the gateway counts. ValueError for numbers that cannot be counts."""
    predictions: Counter[str] = Counter()
    rows_squared = 0
    buckets: dict[str, Counter[str]] = {name: Counter() for name in _BUCKETS}
    for name, labels, count in _samples(text):
        if name == "slipway_predictions_total":
            predictions[labels.get("label", "")] += count
        elif name == "slipway_rows_squared_total":
            rows_squared += count
        elif _is_inference(labels.get("route")):
            buckets[name][labels.get("le", "")] += count
    shares = {field: _separated(buckets[name]) for name, field in _BUCKETS.items()}
    found = {"predictions": dict(predictions), "rows_squared": rows_squared, **shares}
    return msgspec.convert(found, Counters)


_BUCKETS = {
    "slipway_request_duration_seconds_bucket": "durations",
    "slipway_top_probability_bucket": "confidences",
    "slipway_prediction_value_bucket": "values",
}


_ANSWERS = re.compile(r"^slipway_requests_total(\{.*)$", re.MULTILINE)
_IN_HAND = re.compile(r"^slipway_requests_in_hand (\S+)$", re.MULTILINE)


def answers(text: str) -> dict[str, int]:
    """`requests`, `errors` and `refusals` (see `Counters`) as the server itself has counted them:
    for where no gateway is asked. A request that never got to it is not among them."""
    found: Counter[str] = Counter(requests=0, errors=0, refusals=0)
    for rest in _ANSWERS.findall(text):
        sample = _SAMPLE.fullmatch(rest)
        if sample is None:
            raise ValueError(f"slipway_requests_total goes on as {rest[:100]!r}")
        labels = dict(_LABEL.findall(sample[1] or ""))
        if not _is_inference(labels.get("route")):
            continue
        count, status = int(float(sample[2])), labels.get("status", "")
        found["requests"] += count
        found["errors"] += count if status.startswith("5") else 0
        found["refusals"] += count if status.startswith("4") else 0
    return dict(found)


def in_hand(text: str) -> int:
    """How many requests the server works on now. ValueError where it does not say."""
    found = _IN_HAND.search(text)
    if found is None:
        raise ValueError("slipway_requests_in_hand is missing")
    return int(float(found[1]))


def _is_inference(route: str | None) -> bool:
    """The page, the probes and these metrics themselves say nothing about predictions."""
    return route is None or route in ("/predict", "/predict/batch") or route.endswith("/infer")


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], int]]:
    if missing := [name for name in _NAMES if f"# TYPE {name}" not in text]:
        raise ValueError(f"{', '.join(missing)} is missing")
    for name, rest in _LINE.findall(text):
        sample = _SAMPLE.fullmatch(rest)
        if sample is None:
            raise ValueError(f"a line begins with {name} and goes on as {rest[:100]!r}")
        count = float(sample[2])
        if not (0 <= count <= _MOST and count.is_integer()):
            raise ValueError(f"{name} is {count}")
        yield name, {key: _plain(said) for key, said in _LABEL.findall(sample[1] or "")}, int(count)


def _plain(value: str) -> str:
    if "\\" not in value:
        return value
    return _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else found[1], value)


def _separated(cumulated: Counter[str]) -> dict[str, int]:
    """Prometheus counts in each bucket what is in the lower ones, too."""
    bounds = sorted(cumulated, key=float)
    if bounds and bounds[-1] != "+Inf":
        raise ValueError(f"the last bucket of {bounds} is not +Inf")
    lower = [0, *(cumulated[bound] for bound in bounds)]
    counts = {bound: cumulated[bound] - below for bound, below in zip(bounds, lower, strict=False)}
    if any(count < 0 for count in counts.values()):
        raise ValueError(f"cumulated buckets fall: {dict(cumulated)}")
    return counts
