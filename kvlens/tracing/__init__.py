"""What the final token holds at every layer."""
