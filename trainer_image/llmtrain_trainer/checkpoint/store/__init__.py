"""Stores of checkpoints: one Protocol for directories and S3 buckets."""
