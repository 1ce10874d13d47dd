"""The front doors under load: what the mesh adds, and what it withstands."""
