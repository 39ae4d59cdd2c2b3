"""Hugging Face models on any engine: weights in and out, stages, adapters, loss."""
