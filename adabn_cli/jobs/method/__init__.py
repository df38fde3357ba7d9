"""The method on one model: observe, aim, adapt, choose, judge. Knows no file and no request."""
