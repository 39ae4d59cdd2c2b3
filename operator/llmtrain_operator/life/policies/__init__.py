"""Policies that `decide` evaluates in order: conflicts with other jobs, order of placement, stopping of pods, restarts. Pure."""
