"""The network: encoder, latent, decoder, heads and loss. It knows nothing of files.

Not here: how steps are drawn one after the other (model.decoding). Leans on torch alone.
"""
