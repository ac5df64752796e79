"""The heavy steps, in the process that asks for them or in one of their own.

What a step does stands in one function; `Steps` says where it runs. Elsewhere it is
`python -m orchestration.steps`, which reports by Dagster Pipes.
"""
