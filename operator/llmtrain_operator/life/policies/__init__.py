"""What `decide` asks in order: who else is in the way, whose turn it is, how pods are stopped, whether to restart. Pure."""
