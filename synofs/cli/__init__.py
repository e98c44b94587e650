"""Words on the terminal."""
