"""The engine of this process: a Hugging Face backbone on CPU or GPU with the adapter bank."""
