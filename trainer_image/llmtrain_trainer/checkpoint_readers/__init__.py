"""Whole weights and optimizer states out of a checkpoint of any engine and layout, one at a time, by one process.

reader.py    the interface, with transformers' names; engines/open_checkpoint.py finds the reader of a format
native.py, and files.py of engines/deepspeed and engines/megatron: each format; parts.py reads tensors that DCP wrote
published.py, state.py    the same under the names of published files, and as what DCP reads from

An engine takes over from another with a reader (engines/engine.py: load_foreign_checkpoint), and `llmtrain convert` writes Hugging Face's
files from one.
"""
