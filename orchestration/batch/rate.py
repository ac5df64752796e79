"""How fast a job is."""

from orchestration.batch.progress import JobProgress


def rows_per_second(now: JobProgress, first: JobProgress) -> float:
    """Since `first`, which has the rows that an earlier run did; 0 before anything is known."""
    seconds = now.seconds - first.seconds
    return (now.rows_in - first.rows_in) / seconds if seconds > 0 else 0.0
