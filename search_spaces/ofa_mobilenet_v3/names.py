"""Names of tensors in the authors' checkpoints, and ours."""

from __future__ import annotations

import re

BLOCK = re.compile(r"^blocks\.(\d+)\.(mobile_inverted_)?conv\.")  # as older and newer files have it
NAMES = (
    (r"^first_conv\.", "stem."),
    (r"^final_expand_layer\.", "head.conv."),
    (r"^feature_mix_layer\.conv\.", "head.mix."),
    (r"^classifier\.", "head."),
    (r"\binverted_bottleneck\.", "expand."),
    (r"\bdepth_conv\.se\.fc\.", "se."),
    (r"\bdepth_conv\.", "depthwise."),
    (r"\bpoint_linear\.", "project."),
    (r"\bbn\.", "norm."),
    (r"\b(\dto\d)_matrix$", r"transforms.\1"),
)


def own_name(public: str, blocks_per_stage: int) -> str:
    """Return our name of a tensor; block 0 of the authors' is the one before the stages."""
    name = BLOCK.sub(lambda found: _block(int(found[1]), blocks_per_stage), public)
    for pattern, replacement in NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _block(number: int, blocks_per_stage: int) -> str:
    if number == 0:
        return "first."
    stage, position = divmod(number - 1, blocks_per_stage)
    return f"stage{stage + 1}_block{position}."
