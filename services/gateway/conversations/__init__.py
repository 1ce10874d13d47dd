"""Native conversations: what a call is about, and turns that outlive it."""
