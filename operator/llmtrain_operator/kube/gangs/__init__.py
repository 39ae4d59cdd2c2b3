"""Gang schedulers, which admit all pods of a job or none: detection, marks on pods, and state of a gang."""
