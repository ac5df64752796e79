"""Batch scoring: the verified model over a table of any size."""
