"""The panes that the screens are made of. May import host and what stands below it."""
