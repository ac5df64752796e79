"""Dagster on a cluster: executor, pods and their tags, where `kubernetes.dagster.runs` says so.

dagster-k8s (the extra `kubernetes`) is imported there alone.
"""
