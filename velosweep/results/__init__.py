"""What is kept and how: the journal as runs happen, and the files that are derived from it."""
