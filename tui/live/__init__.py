"""Traces that are still being recorded: watching their files, following and starting their recordings."""
