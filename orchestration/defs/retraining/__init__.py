"""Back to training: what asks for it, the training itself, and the gate its versions pass."""
