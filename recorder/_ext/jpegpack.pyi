"""C only: no name for Python."""
