"""A source as the manifest names it -> its files -> rows."""
