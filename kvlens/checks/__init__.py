"""Whether what is measured is right, and how fast it is."""
