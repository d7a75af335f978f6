"""Closed-form predictions of the families, and the bands that checks judge by."""
