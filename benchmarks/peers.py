"""Reference memories beside published implementations of the same thing, in one run, at equal results.

``python benchmarks/peers.py [--only NAME ...] [--seconds S] [--json PATH]``; see benchmarks/README.md.

Each peer is a function that yields rows: what was timed, seconds of ours and of theirs (medians, timed in turn), and
how far the two results are apart. A peer that is not installed is reported as such, with the command that installs it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from peer_faiss import faiss_peer
from peer_titans import titans_peer
from timing import Peer, Row, in_turn
from torch import Tensor, nn
from torch.nn import functional as F

# ---- dnc 1.1.0 ------------------------------------------------------------------------------------------------

STEPS = 16
DNC_SIZES = ((16, 16, 4, 16), (128, 32, 4, 16), (512, 32, 4, 16), (128, 64, 1, 1))
"""Slots, row width, read heads, batch."""


def dnc_gates(raw: Tensor, width: int, heads: int) -> Any:
    """The peer's interface vector, squashed as the peer does it, as our gates; its modes are back, forward, content."""
    from memspec.reference.memories.dnc import DNCGates

    sizes = [heads * width, heads, width, 1, width, width, heads, 1, 1, 3 * heads]
    key, strength, key_w, strength_w, erase, add, free, allocate, write, modes = raw.split(sizes, -1)
    back, forward, content = modes.unflatten(-1, (heads, 3)).softmax(-1).unbind(-1)
    return DNCGates(
        key.tanh().unflatten(-1, (heads, width)),
        F.softplus(strength),
        torch.stack((back, content, forward), -1),
        key_w.tanh().unsqueeze(-2),
        F.softplus(strength_w),
        erase.sigmoid().unsqueeze(-2),
        add.tanh().unsqueeze(-2),
        free.sigmoid(),
        allocate.sigmoid(),
        write.sigmoid(),
    )


def dnc_peer(seconds: float) -> Iterator[Row]:
    """A step of DNCMemory, and one of NTMMemory, beside a step of ``dnc.Memory``: STEPS of them, forward and backward.

    Both DNCs get the same weights and inputs and start from the same half-used memory, because the peer breaks ties
    in usage by ``topk``, in no stated order; it also squeezes usage by 1e-6, which is what sets the two apart. The
    package has no NTM: its DNC step is the yardstick for ours, with as many heads, and results are not comparable.
    """
    from dnc import Memory as PeerMemory

    from memspec.reference import DNCMemory, NTMMemory

    for slots, width, heads, batch in DNC_SIZES:
        torch.manual_seed(0)
        peer = PeerMemory(64, slots, width, heads, independent_linears=False)
        inputs = torch.randn(STEPS, batch, 64)
        dnc = DNCMemory(width // 2, width - width // 2, slots, read_heads=heads, mask=False)
        ntm = NTMMemory(width // 2, width - width // 2, slots, read_heads=heads)
        linear = nn.Linear(64, ntm.interface_size)
        half = 0.5 * torch.rand(batch, slots)
        begun = torch.rand(batch, slots, width)

        def run_ours(dnc: Any = dnc, peer: Any = peer, inputs: Tensor = inputs, start: Any = (half, begun)) -> Tensor:
            state = dnc.init_state((inputs.shape[1],))._replace(usage=start[0], memory=start[1])
            out = []
            for x in inputs:
                reads, state = dnc.step(dnc_gates(peer.interface_weights(x), dnc.width, dnc.read_heads), state)
                out.append(reads)
            return torch.stack(out)

        def run_theirs(peer: Any = peer, inputs: Tensor = inputs, start: Any = (half, begun)) -> Tensor:
            hidden = peer.reset(inputs.shape[1])
            hidden["usage_vector"], hidden["memory"] = start
            out = []
            for x in inputs:
                reads, hidden = peer(x, hidden)
                out.append(reads)
            return torch.stack(out)

        def run_ntm(ntm: Any = ntm, linear: Any = linear, inputs: Tensor = inputs) -> Tensor:
            state, out = ntm.init_state((inputs.shape[1],)), []
            for x in inputs:
                reads, state = ntm.step(ntm.interface(linear(x)), state)
                out.append(reads)
            return torch.stack(out)

        def backward(run: Callable[[], Tensor]) -> Callable[[], None]:
            return lambda: run().square().mean().backward()

        size = f"{slots}x{width}, {heads} read heads, batch {batch}"
        with torch.no_grad():
            apart = float((run_ours() - run_theirs()).abs().max())
            ours, theirs = in_turn(run_ours, run_theirs, seconds)
            yield Row("dnc", f"DNC step, {size}", ours / STEPS, theirs / STEPS, apart)
            ours, theirs = in_turn(run_ntm, run_theirs, seconds)
            yield Row("dnc", f"NTM step beside their DNC step, {size}", ours / STEPS, theirs / STEPS, None)
        ours, theirs = in_turn(backward(run_ours), backward(run_theirs), seconds)
        yield Row("dnc", f"DNC step and backward, {size}", ours / STEPS, theirs / STEPS, apart)
        yield from written_at_once(dnc, batch, seconds, peer)


def written_at_once(dnc: Any, batch: int, seconds: float, peer: Any) -> Iterator[Row]:
    """Storing as many pairs as there are slots: our update, one scatter, beside their steps with fixed gates."""
    slots = dnc.slots
    keys, values = torch.randn(batch, slots, dnc.key_dim), torch.randn(batch, slots, dnc.value_dim)
    start = dnc.init_state((batch,))
    rows = torch.cat((keys, values), -1)
    one, none = torch.ones(batch, 1), torch.zeros(batch, dnc.read_heads)
    erase = torch.ones(batch, 1, dnc.width)

    def theirs() -> Any:
        hidden = peer.reset(batch)
        for row in rows.unbind(1):
            add = row.unsqueeze(1)
            hidden = peer.write(add, add, erase, none, none, one, one, one, hidden)
        return hidden

    with torch.no_grad():
        after, other = dnc.write(start, keys, values), theirs()
        # Their fresh slots are taken in the order topk gives, so the rows are compared as a set.
        apart = float(torch.cdist(after.memory, other["memory"]).amin(-1).max())
        ours_s, theirs_s = in_turn(lambda: dnc.write(start, keys, values), theirs, seconds)
    yield Row("dnc", f"DNC, {slots} pairs stored, batch {batch}", ours_s, theirs_s, apart)


PEERS: dict[str, tuple[Peer, str]] = {
    "dnc": (dnc_peer, "pip install --no-deps dnc==1.1.0"),
    "titans": (titans_peer, "pip install titans-pytorch==0.5.5"),
    "faiss": (faiss_peer, "pip install faiss-cpu"),
}
"""By name: the comparison, and how to install the peer."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PEERS, default=list(PEERS), help="peers to compare with")
    parser.add_argument("--seconds", type=float, default=2.0, help="time to spend on each row (default 2)")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; ratio = ours / theirs, below 1 is faster\n")
    print(f"{'peer':8}{'what':58}{'ours':>12}{'theirs':>12}{'ratio':>8}{'apart':>10}")
    rows: list[Row] = []
    for name in options.only:
        peer, install = PEERS[name]
        try:
            for row in peer(options.seconds):
                rows.append(row)
                apart = "" if row.difference is None else f"{row.difference:.1e}"
                print(
                    f"{row.peer:8}{row.what:58}{row.ours * 1e6:10.0f}us{row.theirs * 1e6:10.0f}us"
                    f"{row.ours / row.theirs:8.2f}{apart:>10}",
                    flush=True,
                )
        except ImportError as error:
            print(f"{name:8}not compared: {error}; {install}")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
