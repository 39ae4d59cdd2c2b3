"""Refusals of what no engine, layout or pod can do."""
