"""Plan -> the Kubernetes objects of one attempt, as dicts. Pure."""
