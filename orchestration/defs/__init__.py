"""Definitions by stage. Thin: what they decide stands in pure functions beside them."""
