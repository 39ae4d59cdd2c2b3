"""What an agent tells: metrics, status over HTTP, logs, and where the time went."""
