"""The feature transformer: a Bento of its own, and the only one with Feast in it."""
