"""YAML text -> a typed job, or a refusal that names field, value, rule and way out. Pure."""
