"""Alerts: what fires when, as Prometheus rules and in words, and what Prometheus scrapes."""
