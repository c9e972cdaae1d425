"""Trained networks in the names, files and folders of other libraries, which then compute what they compute here."""
