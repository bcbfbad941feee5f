"""One training-free method, one file; a file in this folder is found by itself."""
