"""Access of the operator to the API server: client, credentials, and freshness of watches."""
