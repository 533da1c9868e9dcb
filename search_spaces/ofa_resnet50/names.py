"""Names of tensors in the authors' checkpoints, and ours."""

from __future__ import annotations

import re
from collections.abc import Sequence

BLOCK = re.compile(r"^blocks\.(\d+)\.")
NAMES = (
    (r"^input_stem\.0\.", "stem_in."),
    (r"^input_stem\.1\.(conv\.(?=conv|bn))?", "stem_mid."),
    (r"^input_stem\.2\.", "stem_out."),
    (r"\bdownsample\.", "shortcut."),
    (r"^classifier\.", "head."),
    (r"\bbn\.", "norm."),
)


def own_name(public: str, block_names: Sequence[str]) -> str:
    """Return our name of a tensor; the authors number the blocks that `block_names` lists."""
    name = public
    found = BLOCK.match(name)
    if found and int(found[1]) < len(block_names):
        name = f"{block_names[int(found[1])]}.{name[found.end() :]}"
    for pattern, replacement in NAMES:
        name = re.sub(pattern, replacement, name)
    return name
