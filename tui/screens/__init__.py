"""Whole screens of the terminal view."""
