"""Container images: what each is built from, and the engine that builds them."""
