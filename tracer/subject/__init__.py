"""What is attributed: a text model on its embeddings, or any model on tensors of a file. May import model and rules."""
