"""The published timestep matrix of SkyReels-V2 (its generate_timestep_matrix), written out as a test oracle.

Frames are grouped in blocks; a block advances one step per row if it is the first or the block before it is finished,
otherwise it stands `lag` steps behind that block.
"""


def matrix(frames: int, steps: int, lag: int, base: int, ready: int = 0, block: int = 1):
    """-> (index, update, interval): per row the step number of each frame (0 not started, steps + 1 finished), which
    frames move, and the interval of frames in view."""
    blocks, base_blocks, finished = frames // block, base // block, steps + 1
    before = [0] * blocks
    before[: ready // block] = [finished] * (ready // block)
    index, update, interval = [], [], []
    end = base_blocks
    while not all(value >= steps for value in before):
        now = []
        for i in range(blocks):
            free = i == 0 or before[i - 1] >= steps
            now.append(before[i] + 1 if free else now[i - 1] - lag)
        now = [min(max(value, 0), finished) for value in now]
        moves = [n != b and n != finished for n, b in zip(now, before)]
        index.append([value for value in now for _ in range(block)])
        update.append([value for value in moves for _ in range(block)])
        if end < blocks and moves[end]:
            end += 1
        interval.append((max(end - base_blocks, 0) * block, end * block))
        before = now
    return index, update, interval
