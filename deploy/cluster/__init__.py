"""Requests to a Kubernetes API server: bounded in time, and failing in one sentence."""
