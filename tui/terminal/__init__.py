"""What is particular to the terminal: changed cells, the clipboard, files, the browser."""
