"""The network: encoder, latent, condition, decoder, heads and loss; what a control is, what a bar is.

Not here: how steps are drawn one after the other (model.decoding), and files. Leans on torch alone.
"""
