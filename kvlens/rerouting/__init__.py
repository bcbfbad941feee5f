"""The final token's key and value as a prefix, in one forward pass."""
