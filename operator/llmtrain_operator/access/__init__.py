"""A person's way to a cluster: kubeconfig, credentials, and what a person may read there."""
