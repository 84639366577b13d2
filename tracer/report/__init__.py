"""A trace as text, Markdown, HTML and data. May import diagnosis, analysis and tracefile; no torch."""
