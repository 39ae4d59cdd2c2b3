"""The directory in which the agent and the ranks of a node meet: one file a fact. No imports of torch."""
