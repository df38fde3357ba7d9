"""Tables that people wrote: their text, and what their columns mean."""
