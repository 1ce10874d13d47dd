"""Who is let in, how often, and what is fair between tenants."""
