"""Features as the platform uses them: materialized, watched, compared with what was served."""
