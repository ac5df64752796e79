"""The one HTTP listener: who may connect, what is answered by Envoy itself, what is logged."""

from http import HTTPStatus
from pathlib import Path
from typing import Any

from deploy.gateway.clusters import CONTROL, CONTROL_SECONDS, LOOPBACK
from deploy.gateway.limits import http_filters
from serving_config.gateway import Gateway, Limits

Json = dict[str, Any]

# What Envoy holds for a connection whose other side reads slowly.
_BUFFER_BYTES = 256 << 10
_TYPES = "type.googleapis.com/envoy.extensions"

# A client chooses some of these: they are cut, and JSON escapes them. Keys are not among them.
_FIELDS = {
    "time": "%START_TIME%",
    "request_id": "%REQ(X-REQUEST-ID):128%",
    "traceparent": "%REQ(TRACEPARENT):64%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "method": "%REQ(:METHOD):16%",
    "path": "%PATH(NQ:PATH):200%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "duration_ms": "%DURATION%",
    "request_bytes": "%BYTES_RECEIVED%",
    "response_bytes": "%BYTES_SENT%",
    "environment": "%RESP(X-ENVIRONMENT)%",
    "version": "%RESP(X-MODEL-VERSION)%",
    "server": "%UPSTREAM_CLUSTER%",
    "user_agent": "%REQ(USER-AGENT):100%",
}


def listener(
    logs: Path, routes: Json, gateway: Gateway, max_body_bytes: int, host: str = LOOPBACK
) -> Json:
    """routes: where Envoy finds its RouteConfiguration; host: the address it listens on."""
    name = "http_connection_manager"
    manager = _connection_manager(logs, routes, gateway, max_body_bytes)
    kind = f"{_TYPES}.filters.network.{name}.v3.HttpConnectionManager"
    filters = [{"name": f"envoy.filters.network.{name}", "typed_config": {"@type": kind} | manager}]
    return {
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": "gateway",
        "address": {"socket_address": {"address": host, "port_value": gateway.port}},
        "per_connection_buffer_limit_bytes": _BUFFER_BYTES,
        "filter_chains": [{"filters": filters}],
    }


def _connection_manager(logs: Path, routes: Json, gateway: Gateway, max_body_bytes: int) -> Json:
    limits = gateway.limits
    router = {
        "@type": f"{_TYPES}.filters.http.router.v3.Router",
        "suppress_envoy_headers": True,
    }
    return {
        "stat_prefix": "gateway",
        "rds": {"route_config_name": "routes", "config_source": routes},
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "server_name": "slipway",
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        # A client cannot say where it comes from, nor is any trusted with Envoy's own headers.
        "use_remote_address": True,
        "xff_num_trusted_hops": gateway.trusted_proxies,
        # It would append the machine's own address for a client on it; see route_configuration.
        "skip_xff_append": True,
        "max_request_headers_kb": limits.max_header_kib,
        "request_headers_timeout": _duration(limits.headers_timeout_seconds),
        "request_timeout": _duration(limits.request_timeout_seconds),
        # For a client that does not read its answer; a second later than the route's time-out,
        # which is for a server that does not give one.
        "stream_idle_timeout": _duration(limits.response_timeout_seconds + 1),
        "common_http_protocol_options": {
            "idle_timeout": _duration(limits.idle_timeout_seconds),
            "max_headers_count": limits.max_headers,
        },
        "http2_protocol_options": {
            "max_concurrent_streams": 100,
            "initial_stream_window_size": 64 << 10,
            "initial_connection_window_size": 1 << 20,
        },
        "local_reply_config": _problem_replies(limits, max_body_bytes),
        "access_log": [_access_log(logs)] if gateway.access_log else [],
        "http_filters": [
            *http_filters(limits, max_body_bytes),
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
    }


def _duration(seconds: float) -> str:
    return f"{seconds:.3f}s"


def _access_log(logs: Path) -> Json:
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": f"{_TYPES}.access_loggers.file.v3.FileAccessLog",
            "path": str(logs / "gateway-access.log"),
            "log_format": {"json_format": _FIELDS},
        },
    }


def _details(limits: Limits, max_body_bytes: int) -> dict[HTTPStatus, str]:
    """What a client reads where Envoy's own words would not help it."""
    return {
        HTTPStatus.REQUEST_TIMEOUT: (
            f"the request did not arrive in time: its headers may take "
            f"{limits.headers_timeout_seconds:g} s, all of it {limits.request_timeout_seconds:g} s"
        ),
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (
            f"the request's body is larger than {max_body_bytes} bytes"
        ),
        HTTPStatus.TOO_MANY_REQUESTS: (
            "too many requests with this key or from this address: try again after the seconds "
            "of Retry-After"
        ),
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: (
            f"the request's headers are larger than {limits.max_header_kib} KiB, or more than "
            f"{limits.max_headers}"
        ),
        HTTPStatus.GATEWAY_TIMEOUT: (
            f"the model server gave no answer within {limits.response_timeout_seconds:g} s"
        ),
    }


def _problem_replies(limits: Limits, max_body_bytes: int) -> Json:
    """What Envoy answers by itself, as RFC 9457 `application/problem+json`."""
    details = _details(limits, max_body_bytes)
    busy = f"{limits.max_requests_per_server} requests are in flight to this model: try again"
    overflow = {"response_flag_filter": {"flags": ["UO"]}}
    lost = {"response_flag_filter": {"flags": ["UF", "UC", "URX"]}}
    errors = [status for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST]
    return {
        "mappers": [
            _reply(_both(_FOR_CONTROL, lost), HTTPStatus.SERVICE_UNAVAILABLE, _CONTROL_LOST),
            _reply(_both(_FOR_CONTROL, overflow), HTTPStatus.SERVICE_UNAVAILABLE, _CONTROL_BUSY),
            _reply(
                _both(_FOR_CONTROL, _is(HTTPStatus.GATEWAY_TIMEOUT)),
                HTTPStatus.GATEWAY_TIMEOUT,
                f"the control API gave no answer within {CONTROL_SECONDS} s",
            ),
            _reply(overflow, HTTPStatus.SERVICE_UNAVAILABLE, busy),
            _reply(lost, HTTPStatus.SERVICE_UNAVAILABLE, _LOST),
            *(_reply(_is(status), status, details.get(status)) for status in errors),
        ],
        "body_format": _problem(None, "The gateway could not answer"),
    }


def _is(status: HTTPStatus) -> Json:
    equals = {"op": "EQ", "value": {"default_value": status, "runtime_key": "unused"}}
    return {"status_code_filter": {"comparison": equals}}


def _both(*filters: Json) -> Json:
    return {"and_filter": {"filters": filters}}


def _reply(condition: Json, status: HTTPStatus, detail: str | None) -> Json:
    reply: Json = {
        "filter": condition,
        "body_format_override": _problem(status, status.phrase, detail),
    }
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        header = {"key": "retry-after", "value": "1"}
        reply["headers_to_add"] = [{"header": header, "append_action": "ADD_IF_ABSENT"}]
    return reply


# Asked for answers of the gateway itself only.
_FOR_CONTROL = {
    "extension_filter": {
        "name": "envoy.access_loggers.extension_filters.cel",
        "typed_config": {
            "@type": f"{_TYPES}.access_loggers.filters.cel.v3.ExpressionFilter",
            "expression": f"xds.cluster_name == '{CONTROL}'",
        },
    }
}
_CONTROL_LOST = "the control API does not answer; it may be starting anew: try again"
_CONTROL_BUSY = "the control API has too much to do: try again"
_LOST = "the model server does not answer; it may be starting anew: try again"
# As the model server names them, for programs to tell apart.
_KINDS = {
    HTTPStatus.NOT_FOUND: "not-found",
    HTTPStatus.REQUEST_TIMEOUT: "request-timeout",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "body-too-large",
    HTTPStatus.TOO_MANY_REQUESTS: "too-many-requests",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "headers-too-large",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
    HTTPStatus.GATEWAY_TIMEOUT: "deadline-passed",
}


def _problem(status: HTTPStatus | None, title: str, detail: str | None = None) -> Json:
    kind = None if status is None else _KINDS.get(status)
    document = {
        "type": "about:blank" if kind is None else f"urn:slipway:problem:{kind}",
        "title": title,
        "status": "%RESPONSE_CODE%",
        "detail": detail or "%LOCAL_REPLY_BODY%",
        "request_id": "%REQ(X-REQUEST-ID)%",
    }
    return {"content_type": "application/problem+json", "json_format": document}
