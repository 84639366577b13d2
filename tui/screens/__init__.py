"""Whole screens, loaded when they are first shown. May import everything of tui but the application."""
