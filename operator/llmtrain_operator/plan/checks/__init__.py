"""Refusals of manifests that no engine, layout or pod can serve."""
