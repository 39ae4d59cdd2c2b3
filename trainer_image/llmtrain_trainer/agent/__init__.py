"""PID 1 of a node: starts this node's ranks, restarts them in place, uploads checkpoints, tells how it goes, gives the verdict.

The order of things is in `node.py`; `__main__.py` of the package calls it.
"""
