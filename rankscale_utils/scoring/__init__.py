"""How a trained model scores: pairs, embeddings, stored states, a decoder, every system that can be served."""
