"""How things look: roles of text, themes that colour them, shades by size, frames of panes. May import model."""
