"""`backbench doctor --train`: does this machine train what it should, as fast and as exactly as it should?"""
