"""Where model servers run: one interface, one module for each kind of place."""
