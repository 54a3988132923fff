"""One lock for each model and tokenizer, since what is set on them for the length of a call is seen by all threads."""

from __future__ import annotations

import threading
import weakref
from typing import Any

_locks: weakref.WeakKeyDictionary[Any, threading.RLock] = weakref.WeakKeyDictionary()
_table = threading.Lock()


def lock_of(thing: Any) -> threading.RLock:
    """The lock to hold while an object is altered for a moment; the same one for each call in the object's lifetime.

    A thread that holds it can take it again. It is no part of the object, so the object can be copied and pickled.

    Parameters
    ----------
    thing : PreTrainedModel or PreTrainedTokenizerBase
        Anything that can be hashed and weakly referred to.

    Returns
    -------
    threading.RLock

    Examples
    --------
    >>> class Model: pass
    >>> one, other = Model(), Model()
    >>> lock_of(one) is lock_of(one), lock_of(one) is lock_of(other)
    (True, False)
    """
    with _table:
        return _locks.setdefault(thing, threading.RLock())
