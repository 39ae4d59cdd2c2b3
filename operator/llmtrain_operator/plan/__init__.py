"""A typed job -> the plan that is trained: layout, memory, speed, advice, and the config of every pod. Pure."""
