"""Two models that `slipway train` can train: iris and spam."""
