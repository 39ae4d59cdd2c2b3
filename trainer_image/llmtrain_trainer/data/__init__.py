"""Rows that ranks can read: sources, formats, tokens, and the order in which a run consumes them."""
