"""The directory through which the agent and the ranks of a node communicate: one file per fact. Does not import torch."""
