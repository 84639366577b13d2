"""What differs from terminal to terminal: cells, ASCII, clipboard, files, browser. May import model."""
