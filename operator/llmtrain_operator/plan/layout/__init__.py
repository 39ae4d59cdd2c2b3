"""Degrees of parallelism, batch and hardware: how a job is cut over devices, and how fast that is expected to be."""
