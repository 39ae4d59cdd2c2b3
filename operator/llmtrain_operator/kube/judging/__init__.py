"""Verdicts on manifests, made in a process apart so that none can hold up the operator: plans, and answers to reviews."""
