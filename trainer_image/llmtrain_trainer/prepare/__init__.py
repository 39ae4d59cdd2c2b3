"""Everything that happens before ranks start: model files, tokenizer, tokenised rows."""
