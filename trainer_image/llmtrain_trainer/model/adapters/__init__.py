"""Adapters as layers of a model: put into it, and folded into its weights. One file a method that is more than plain LoRA."""
