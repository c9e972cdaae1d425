"""How a backbone is judged: each task fine-tunes it on one data set under one recipe and gives back metrics."""
