"""Pictures that arrive in a folder, adapted to as they come."""
