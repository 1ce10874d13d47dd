"""What the feature vector knows: tasks named, cost foreseen, and what each feature is worth."""
