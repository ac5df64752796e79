"""Two versions or variants of a model, side by side: `slipway compare`."""
