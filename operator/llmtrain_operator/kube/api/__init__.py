"""The API server as the operator reaches it: client, credentials, and how fresh its watches are."""
