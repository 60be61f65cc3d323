"""What the training script leans on: start, optimizer, processes, stop and resume, logs, runs compared.

Not here: the optimisation step (training_script_causal_decoder.py). Leans on data_aug,
on playing for samples, and on what they lean on.
"""
