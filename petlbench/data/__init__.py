"""Looking after data sets: are they whole, what do they look like, and how are they made."""
