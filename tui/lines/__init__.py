"""Pure functions: figures and a width in, lines of text with roles out. May import the tables of actions and model."""
