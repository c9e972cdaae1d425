"""Labelled images that are named by a file: iNaturalist's JSON, the lists of Places."""
