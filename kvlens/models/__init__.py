"""A name becomes weights, tokenizer and two module trees."""
