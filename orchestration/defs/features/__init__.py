"""Feature views in the online store, kept fresh, and compared with what was served."""
