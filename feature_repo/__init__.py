"""Slipway's feature definitions, for Feast: entities, sources, feature views, feature services."""
