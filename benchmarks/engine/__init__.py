"""The engine beside the engines a user would pick instead, row by row.

__main__    the command: which rows, which peers, how long
rows/       what is claimed: the figures of each row and its bars
runner      takes the samples, interleaved, and can stop and go on
results     the file of samples
report      the table made from it
processes   every contender is a process of its own; this end of them
contender   the other end: what a contender answers to
ours/       Thermesh as a contender, and what only it is asked
peers/      the others, each in a virtual environment of its own
"""
