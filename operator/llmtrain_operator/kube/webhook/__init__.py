"""The server of the validating webhook."""
