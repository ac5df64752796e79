"""Swagger UI's page. Its files are those that BentoML ships, so it needs no internet."""

import functools
from importlib.util import find_spec
from pathlib import Path

ASSETS = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
}
HTML = "text/html; charset=utf-8"
# Addresses are relative: the page may lie behind a gateway's /models/<model>/ prefix.
_PAGE = b"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START = b"""SwaggerUIBundle({
  url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null,
});
"""
_PLAIN = b"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>API</title></head>
<body><p>This BentoML has no Swagger UI; the schema is <a href="openapi.json">openapi.json</a>.</p>
</body></html>
"""
# The page runs its own scripts and those of nobody else.
HEADERS = (
    (
        "content-security-policy",
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:",
    ),
    ("x-content-type-options", "nosniff"),
)


def assets_folder() -> Path:
    """Where the installed BentoML keeps Swagger UI; a test holds that it is still there.

    BentoML is looked up and not imported: the control process does without it.
    """
    found = find_spec("bentoml")
    assert found is not None and found.origin is not None  # noqa: S101, PT018 - a dependency
    return Path(found.origin).parent / "_internal" / "server" / "static_content"


def page() -> bytes:
    """Swagger UI, or a plain page that links the schema where BentoML does not ship it."""
    complete = all((assets_folder() / name).is_file() for name in ASSETS)
    return _PAGE if complete else _PLAIN


@functools.cache
def asset(name: str) -> bytes:
    """One of ASSETS, or FileNotFoundError."""
    # Not at start-up: 1.5 MB that most servers are never asked for.
    return (assets_folder() / name).read_bytes()
