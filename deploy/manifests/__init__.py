"""Kubernetes objects as pure functions of the settings and of what the ledger says."""
