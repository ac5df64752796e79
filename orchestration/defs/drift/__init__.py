"""Drift, live quality, and the schedules that look at both."""
