"""Tests, in the same rooms as what they test; `support` has what several of them use."""
