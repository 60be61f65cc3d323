"""config.yaml: what it may say, how it is read, how its errors are told.

Not here: what the values do. Leans on utils.checks alone.
"""
