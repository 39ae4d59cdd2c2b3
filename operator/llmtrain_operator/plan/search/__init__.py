"""The search over layouts and engines, for `auto` and for the alternatives of a plan."""
