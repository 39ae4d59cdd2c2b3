"""Refusals, memory and search hints of each engine, beyond those common to all."""
