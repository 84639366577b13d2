"""What the screens show and remember, without a terminal. May import of tracer what reads traces."""
