"""Commands that speak to a cluster, with the rights of the person who runs them."""
