"""Batch scoring: by day, from the drop folder, and as the control API asks for it."""
