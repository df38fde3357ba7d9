"""What is said of a record, in words and figures, the same in every rendering."""
