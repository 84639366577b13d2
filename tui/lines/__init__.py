"""Figures and a width in, lines of text with roles out; pure. May import tui.model."""
