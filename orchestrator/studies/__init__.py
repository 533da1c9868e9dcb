"""Ready studies, runnable by name."""
