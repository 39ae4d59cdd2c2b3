"""Reads a job before each decision: its objects, their ownership, and its agents."""
