"""Who admits the pods of a job all or none: which scheduler a cluster has, and what it wants to see on pods."""
