"""The prediction log and the labels: compaction, retention and the drop folder."""
