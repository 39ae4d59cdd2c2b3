"""Tables that operator and trainer both read: one row per engine, family, task, adapter or reason."""
