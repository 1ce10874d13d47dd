"""The rooms of the mesh, in the order a request meets them:

gateway -> feature -> controller -> inference, and back through the controller's
learner, which turns outcomes and feedback into new policy versions. Rooms meet
only on the wire: none imports another.
"""
