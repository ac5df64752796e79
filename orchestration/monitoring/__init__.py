"""Drift, live quality and retraining: the decisions, without Dagster."""
