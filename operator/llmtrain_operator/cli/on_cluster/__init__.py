"""Commands that talk to a cluster, with the rights of the person who runs them."""
