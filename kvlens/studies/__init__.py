"""Which windows of layers are good, and whether the rules find them."""
