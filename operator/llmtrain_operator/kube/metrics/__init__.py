"""Prometheus metrics of the operator: of its own work, and of every job from its status."""
