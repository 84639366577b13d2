"""Pictures of the terminal UI for the README, drawn by Textual from a real trace."""
