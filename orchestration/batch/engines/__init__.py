"""Where the parts of a batch job are scored."""
