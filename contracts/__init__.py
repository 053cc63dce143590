"""What may be said: lifecycle, nouns, the contract language, and the errors."""
