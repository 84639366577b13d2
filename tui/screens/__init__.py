"""Whole screens of the terminal UI, loaded when they are first shown. May import widgets and what is below them."""
