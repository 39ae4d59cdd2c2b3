"""Rows -> text -> token ids: chat templates, answers to learn, control tokens."""
