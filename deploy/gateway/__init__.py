"""The Envoy gateway: its routes as a pure function, its files, and what it reports."""
