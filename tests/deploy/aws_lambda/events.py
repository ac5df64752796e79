"""Events as AWS sends them.

https://docs.aws.amazon.com/lambda/latest/dg/services-apigateway.html, …/services-alb.html
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any

Json = dict[str, Any]
Event = Callable[..., Json]
CLIENT = "203.0.113.7"


def _body(body: bytes, binary: bool) -> Json:
    text = base64.b64encode(body).decode() if binary else body.decode()
    return {"body": text or None, "isBase64Encoded": binary}


def rest_api(
    method: str, path: str, headers: Mapping[str, str], body: bytes = b"", *, binary: bool = False
) -> Json:
    """API Gateway, REST: payload format 1.0."""
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": dict(headers),
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": {"proxy": path.lstrip("/")},
        "stageVariables": None,
        "requestContext": {
            "resourcePath": "/{proxy+}",
            "httpMethod": method,
            "path": f"/prod{path}",
            "stage": "prod",
            "identity": {"sourceIp": CLIENT, "userAgent": "curl"},
            "apiId": "abc",
        },
    } | _body(body, binary)


def http_api(
    method: str, path: str, headers: Mapping[str, str], body: bytes = b"", *, binary: bool = False
) -> Json:
    """API Gateway, HTTP, and a function URL: payload format 2.0."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {name.lower(): value for name, value in headers.items()},
        "requestContext": {
            "apiId": "abc",
            "stage": "$default",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": CLIENT,
                "userAgent": "curl",
            },
        },
    } | _body(body, binary)


def load_balancer(
    method: str, path: str, headers: Mapping[str, str], body: bytes = b"", *, binary: bool = False
) -> Json:
    """An Application Load Balancer. It appends to what a client says in X-Forwarded-For."""
    named = {name.lower(): value for name, value in headers.items()}
    before = named.get("x-forwarded-for")
    named["x-forwarded-for"] = f"{before}, {CLIENT}" if before else CLIENT
    return {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:eu:1:tg/x/1"}},
        "httpMethod": method,
        "path": path,
        "queryStringParameters": {},
        "headers": named | {"host": "lb.example.com", "x-forwarded-port": "443"},
    } | _body(body, binary)
