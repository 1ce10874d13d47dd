"""`thermesh quantize`: fewer bits where they are missed least.

    texts -> curvature -> costs -> allocation -> rounding -> divergence -> file

`docs/architecture/quantisation.md` tells the method and what it reaches.
"""
