"""From a registered model version to production."""
