"""How things look: roles of text, themes that colour them, shades by size. May import model."""
