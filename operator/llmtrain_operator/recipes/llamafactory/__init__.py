"""Recipes of LLaMA-Factory."""
