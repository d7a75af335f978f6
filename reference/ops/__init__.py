"""The rules of memories, as pure functions of tensors: gates, strengths and steps are arguments.

``memories/`` call them with constants; a network calls them with what it predicts, head by head or row by row. Every
function takes any leading batch dimensions ``...``, changes nothing that it is given, and is differentiable unless it
says otherwise. ``N`` rows, ``Q`` queries, ``H`` heads, ``S`` slots, ``D`` or ``W`` width.
"""
