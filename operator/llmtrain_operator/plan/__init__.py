"""A typed job -> its plan: layout, memory, speed, advice, and the config of every pod. Pure."""
