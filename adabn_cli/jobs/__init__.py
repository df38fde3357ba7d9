"""The stories: one file a job that a user asks for, told in stations."""
