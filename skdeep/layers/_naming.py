"""Parameters of named layers inside lists: ``conv1__filters``, as in a Pipeline."""


class NamedLayers:
    """A mixin for estimators with a parameter `layers`: a list of (name, layer[, inputs]).

    The layers and their parameters can be read and set by name, so that a search can tune
    ``conv1__filters``, or put another layer in the place of ``conv1``.
    """

    #: The parameters that hold such lists.
    _layer_lists = ("layers",)

    def _named_layers(self):
        """Return {name: (parameter, place in the list, layer)}."""
        found = {}
        for parameter in self._layer_lists:
            items = getattr(self, parameter, None)
            if isinstance(items, list | tuple):
                for place, item in enumerate(items):
                    named = isinstance(item, list | tuple) and len(item) in (2, 3)
                    if named and isinstance(item[0], str):
                        found[item[0]] = parameter, place, item[1]
        return found

    def get_params(self, deep=True):
        """Return the parameters, those of the layers under their names.

        Parameters
        ----------
        deep : bool, default=True
            Whether to return the layers and their parameters, too.

        Returns
        -------
        dict
        """
        params = super().get_params(deep=deep)
        if deep:
            for name, (_, _, layer) in self._named_layers().items():
                if name not in params and hasattr(layer, "get_params"):
                    params[name] = layer
                    deeper = layer.get_params(deep=True)
                    params.update((f"{name}__{k}", v) for k, v in deeper.items())
        return params

    def set_params(self, **params):
        """Set parameters; a layer's name puts another layer in its place.

        Parameters
        ----------
        **params : dict
            Parameters, layers by name, and parameters of layers (``conv1__filters``).

        Returns
        -------
        self : object
        """
        own = set(super().get_params(deep=False))
        lists = {k: v for k, v in params.items() if k in self._layer_lists}
        if lists:  # first: the names of the others are those of the new list
            super().set_params(**lists)
        named = self._named_layers()
        replaced = [k for k in params if k in named and k not in own]
        for name in replaced:
            parameter, place, _ = named[name]
            items = list(getattr(self, parameter))
            items[place] = (items[place][0], params[name], *items[place][2:])
            setattr(self, parameter, items)
        rest = {
            k: v for k, v in params.items() if k not in lists and not (k in named and k not in own)
        }
        if rest:
            super().set_params(**rest)
        return self
