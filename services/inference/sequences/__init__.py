"""One request being decoded: its tokens, parameters, guesses and account."""
