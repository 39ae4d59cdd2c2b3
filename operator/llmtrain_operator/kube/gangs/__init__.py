"""Gang schedulers, which admit all pods of a job or none: detection, metadata of pods, and state of a gang."""
