"""One Bento, one model version: contract, session, HTTP API."""

import os

# ONNX Runtime reads it when it is imported; it would keep a store of events in the home folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
