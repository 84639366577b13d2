"""A trace of each version of the layout, as it was written by that version."""
