"""From a record to what people and machines read. Imports no torch."""
