"""How many dimensions a layer has, and whether that is to be trusted."""
