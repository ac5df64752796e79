"""What one client may ask of the gateway, in Envoy's terms."""

from typing import Any

from serving_config.gateway import Limits, RateLimit

Json = dict[str, Any]

# Buckets remembered for addresses and for each of the two headers; the least recently used goes.
_BUCKETS = 10_000
# A header's first characters tell keys apart; a longer one would only fill Envoy's memory.
_KEY_CHARACTERS = 100
_TYPES = "type.googleapis.com/envoy.extensions"

# Without it Envoy takes a descriptor's value literally instead of formatting it: see `_key`.
RUNTIME = {"envoy.reloadable_features.enable_formatter_for_ratelimit_action_descriptor_value": True}


def overload_manager(limits: Limits) -> Json:
    """Connections beyond the limit are closed as they are accepted."""
    monitor = "resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    return {
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": {
                    "@type": f"{_TYPES}.{monitor}",
                    "max_active_downstream_connections": limits.max_connections,
                },
            }
        ]
    }


def circuit_breakers(most: int) -> Json:
    """A request beyond `most` is refused at once instead of waiting for a connection.

    Requests that come together each want a connection before Envoy counts them as in flight:
    so there may be twice as many connections, and as many that wait for theirs.
    """
    return {
        "thresholds": [
            {
                "max_requests": most,
                "max_pending_requests": most,
                "max_connections": 2 * most,
            }
        ]
    }


def http_filters(limits: Limits, max_body_bytes: int) -> list[Json]:
    """The filters in front of the router. An answer passes them in the opposite order."""
    return [
        _filter("header_mutation", "HeaderMutation", {"mutations": _standard_names()}),
        _filter("local_ratelimit", "LocalRateLimit", _rate_limits(limits)),
        # Refuses by Content-Length, and counts as it streams; it holds nothing back.
        _filter("body_size_limit", "BodySizeLimit", {"max_request_bytes": max_body_bytes}),
    ]


def _filter(name: str, message: str, settings: Json) -> Json:
    kind = f"{_TYPES}.filters.http.{name}.v3.{message}"
    return {"name": f"envoy.filters.http.{name}", "typed_config": {"@type": kind} | settings}


def _standard_names() -> Json:
    """Envoy writes `x-ratelimit-*`; the IETF's draft says `RateLimit-*`."""
    mutations: list[Json] = []
    for name in ("limit", "remaining", "reset"):
        value = {"key": f"ratelimit-{name}", "value": f"%RESP(X-RATELIMIT-{name.upper()})%"}
        mutations.append({"append": {"header": value}})
        mutations.append({"remove": f"x-ratelimit-{name}"})
    return {"response_mutations": mutations}


def _rate_limits(limits: Limits) -> Json:
    """A bucket for each address and each key; a request takes a token of every one it has.

    So a client that invents keys is still held by its address.
    """
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    address = {"masked_remote_address": {"v4_prefix_mask_len": 32, "v6_prefix_mask_len": 64}}
    return {
        "stat_prefix": "gateway",
        "filter_enabled": always,
        "filter_enforced": always,
        "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
        "enable_retry_after_header": True,
        "max_dynamic_descriptors": _BUCKETS,
        "rate_limits": [
            {"actions": [address]},
            {"actions": [_key("x-api-key")]},
            {"actions": [_key("authorization")]},
        ],
        "descriptors": [
            _bucket_for_each("masked_remote_address", limits.per_address),
            _bucket_for_each("x-api-key", limits.per_key),
            _bucket_for_each("authorization", limits.per_key),
        ],
    }


def _key(header: str) -> Json:
    """Nothing for a request without the header."""
    return {
        "header_value_match": {
            "descriptor_key": header,
            "descriptor_value": f"%REQ({header.upper()}):{_KEY_CHARACTERS}%",
            "headers": [{"name": header, "present_match": True}],
        }
    }


def _bucket_for_each(key: str, limit: RateLimit) -> Json:
    return {
        "entries": [{"key": key}],
        "token_bucket": {
            "max_tokens": limit.size,
            "tokens_per_fill": limit.requests_per_second,
            "fill_interval": "1s",
        },
    }
