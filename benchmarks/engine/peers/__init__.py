"""The engines a user would pick instead.

`catalogue` says which there are, how each is installed and with which settings
it takes part; `environments` makes its virtual environment and its files. The
other modules run inside those environments, one for each engine, and import
nothing of ours but `benchmarks.engine.contender`.
"""
