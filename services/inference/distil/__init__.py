"""`thermesh distil`: what rounding and cutting took away, taught back by the original.

    order -> mix -> texts -> training -> judgement -> file

The original network is the teacher; no labels and no collection are needed. What
it teaches is the network as it will be stored (`straight_through`) and, where one
is asked for, a light path through it (`nested`). `docs/architecture/distillation.md`
tells the method and what it reaches.
"""
