"""Facts of a model from its config.json: family, sizes, weights."""
