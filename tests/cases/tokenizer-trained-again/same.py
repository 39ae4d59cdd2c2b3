"""The second attempt used the first one's tokenizer."""

from pathlib import Path

assert Path("w/node-0/prepared/tokenizer/tokenizer.json").read_bytes() == Path("first.json").read_bytes()
