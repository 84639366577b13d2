"""Ops written as other ops that have rules: the multipliers of such an op are those of what it is written as.

Each function has the parameters of its op, in ATen's order and under the names that a call may give them by, and gives
what the op gives but for rounding.
Plain torch; imports nothing of ours.
"""
