"""Trees: nested tuples, lists and dicts whose leaves are arrays or numbers."""

import copy


def flatten(tree):
    """Return the leaves of a tree, and a function that rebuilds the tree from leaves."""
    if isinstance(tree, dict):
        keys = list(tree)
        kids, make = [tree[k] for k in keys], lambda v: _refilled(tree, zip(keys, v, strict=True))
    elif isinstance(tree, tuple) and hasattr(tree, "_fields"):
        kids, make = tree, lambda v: type(tree)(*v)
    elif isinstance(tree, list | tuple):
        kids, make = tree, type(tree)
    else:
        return [tree], lambda leaves: leaves[0]
    parts = [flatten(k) for k in kids]

    def build(leaves):
        it = iter(leaves)
        return make([rebuild([next(it) for _ in sub]) for sub, rebuild in parts])

    return [leaf for sub, _ in parts for leaf in sub], build


def _refilled(mapping, items):
    new = copy.copy(mapping)  # the constructors of dict's subclasses differ
    new.update(items)
    return new


def leaves_like(tree, like):
    """Return the leaves of `tree` in the order of `like`, where None stands for any part.

    Dicts are matched by key, not by order; what stands in the place of a leaf is a leaf.
    """
    if not isinstance(like, dict | list | tuple):
        return [tree]
    if tree is None:
        return [None] * len(flatten(like)[0])
    if isinstance(like, dict):
        if not isinstance(tree, dict) or tree.keys() != like.keys():
            got = list(tree) if isinstance(tree, dict) else type(tree).__name__
            raise ValueError(f"trees differ: expected a dict with keys {list(like)}, got {got}")
        return [leaf for k in like for leaf in leaves_like(tree[k], like[k])]
    if not isinstance(tree, list | tuple) or len(tree) != len(like):
        got = f"{len(tree)} entries" if isinstance(tree, list | tuple) else type(tree).__name__
        raise ValueError(
            f"trees differ: expected a {type(like).__name__} of {len(like)} entries, got {got}"
        )
    return [leaf for t, k in zip(tree, like, strict=True) for leaf in leaves_like(t, k)]


def tree_map(f, tree, *rest):
    """Apply `f` to each leaf of `tree`, together with the same leaves of the `rest`."""
    leaves, build = flatten(tree)
    others = [leaves_like(t, tree) for t in rest]
    return build([f(*column) for column in zip(leaves, *others, strict=True)])
