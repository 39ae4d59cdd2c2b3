"""YAML text -> a typed job, or refusals that name field, value, rule and way out. Pure."""
