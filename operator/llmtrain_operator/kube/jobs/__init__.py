"""What the operator does about jobs: reconcile, the order of placement, who writes to which destination, and writes to the cluster."""
