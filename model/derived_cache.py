"""What other code derives from a model's weights and keeps with the model."""


class DerivedCache(dict):
    """What is derived from a model's weights and kept with it. A copy of the model starts without: graphs
    can't be copied or saved."""

    made_of = None

    def __deepcopy__(self, memo):
        return DerivedCache()

    def __reduce__(self):
        return DerivedCache, ()

    @staticmethod
    def of(model, name, made_of=None):
        """The model's cache of this name, emptied where made_of is not what it was."""
        cache = model.__dict__.setdefault(name, DerivedCache())
        if cache.made_of != made_of:
            cache.clear()
            cache.made_of = made_of
        return cache

    @staticmethod
    def drop_all(model):
        """Give up all that is kept with the model."""
        for name in [name for name, value in vars(model).items() if isinstance(value, DerivedCache)]:
            del model.__dict__[name]
