"""Compare the outputs of exported models with the outputs of the trained model."""
