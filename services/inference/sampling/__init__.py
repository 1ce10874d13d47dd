"""How one token is drawn from logits, and what a request may ask of that."""
