"""Files become texts and pairs, texts become padded ids."""
