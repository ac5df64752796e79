"""Where it runs: ledger, releases, gateway and targets. Needs neither Dagster nor MLflow."""
