"""PID 1 of a node: starts its ranks, restarts them in place, uploads checkpoints, reports status, writes the verdict.

`node.py` has the stages in order.
"""
