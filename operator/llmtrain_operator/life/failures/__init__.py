"""What ended an attempt: the failure, the rules that find it, and what a person can do about it. Pure."""
