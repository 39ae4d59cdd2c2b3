"""Weights from one format to another: Hugging Face's files, and the checkpoints of native, DeepSpeed and Megatron.

command.py is what __main__ calls. checkpoint_readers/ reads any of them a tensor at a time; targets.py writes them.
"""
