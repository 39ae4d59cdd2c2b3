"""Recipes of other trainers as manifests: one table of keys for each trainer, and what each key becomes."""
