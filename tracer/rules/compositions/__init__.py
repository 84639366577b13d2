"""Ops written as other ops that have rules: the multipliers of such an op are those of what it is written as.

Each function takes what its op takes, in the order of ATen's own signature, and gives what it gives but for rounding.
Plain torch; imports nothing of ours.
"""
