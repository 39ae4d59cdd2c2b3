"""How an agent is told the secret of its attempt. Set by whoever starts the agents, read by trainer_image/llmtrain_trainer/rendezvous."""

RENDEZVOUS_SECRET = "LLMTRAIN_RENDEZVOUS_SECRET"
"""Environment variable: any text of at least 16 characters, the same for all nodes of an attempt, and another for each attempt."""
