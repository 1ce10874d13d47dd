"""The rooms of the mesh.

A request meets them in this order: gateway -> feature -> controller ->
inference, and comes back through the controller's learner, which turns outcomes
and feedback into new policy versions. Rooms meet only on the wire: none
imports another.
"""
