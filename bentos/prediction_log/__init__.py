"""The prediction log's segments: the format, how they are written, and how they are read."""
