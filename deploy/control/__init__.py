"""The control process: the controller of releases, alerts, and the API behind the gateway."""
