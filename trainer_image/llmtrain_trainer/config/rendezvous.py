"""How an agent receives the secret of its attempt."""

RENDEZVOUS_SECRET = "LLMTRAIN_RENDEZVOUS_SECRET"
"""Environment variable: any text of at least 16 characters, the same for all nodes of an attempt, and another for each attempt."""
