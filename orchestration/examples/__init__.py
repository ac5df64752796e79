"""The models that `slipway train` can train: iris, spam-detector and customer-churn."""
