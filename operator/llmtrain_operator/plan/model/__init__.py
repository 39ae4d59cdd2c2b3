"""What config.json says of a model: family, sizes, weights."""
