"""What the spaces of Once-for-all share: elastic supernets, chains of parts, lists as encodings.

- `encoding`: architectures as lists of entries, and what depths leave inactive;
- `chain`: networks that are a chain of parts; `records`, `modules`: what parts are made of;
- `layers`: convolutions, batch norms and linear layers that run at an active size; `supernet`: a
  space's largest network made of them; `sorting`: channels by importance;
- `checkpoint`: the weights that the authors published.
"""

from search_spaces.elastic.checkpoint import load_public
from search_spaces.elastic.supernet import ElasticSpace, Supernet

__all__ = ["ElasticSpace", "Supernet", "load_public"]
