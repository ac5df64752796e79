"""Dagster: the lifecycle's assets, checks and sensors, the pure functions they call, the CLI."""
