"""The prediction log behind the servers: reading, compaction, labels, retention."""
