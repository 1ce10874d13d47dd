"""From outcomes and feedback to a slightly better policy. Pure: no store, no clock."""
