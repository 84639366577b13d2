"""Traces that are being recorded: watching their files, following and starting recordings. May import model."""
