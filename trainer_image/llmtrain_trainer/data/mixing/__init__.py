"""Which sample of which dataset comes next: shares, order and lengths of several datasets that are trained on together."""
