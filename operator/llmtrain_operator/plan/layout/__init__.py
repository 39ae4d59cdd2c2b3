"""Degrees of parallelism, batch and hardware: how a job is split over devices, and its expected speed."""
