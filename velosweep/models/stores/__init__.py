"""Where other programs keep models: one reader a program, by its documented layout."""
