"""A load generator for one model: closed or open loop, its results, and a plot of them."""
