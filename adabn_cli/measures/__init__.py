"""Numbers from arrays and moments. Knows no model, no file, no engine and no rendering."""
