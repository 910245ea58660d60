// J, K and L as editors know them: the speed after a key. Pure; the player turns speeds into playback.

const FASTEST = 4;

/** The speed after "j", "k" or "l", from the speed now (0: stopped; negative: backwards). */
export function shuttle(speed, key) {
  if (key === "k") return 0;
  const way = key === "l" ? 1 : -1;
  if (speed * way <= 0) return way;
  return way * Math.min(FASTEST, Math.abs(speed) * 2);
}

/** The time of a frame's middle, where a seek surely shows that frame. */
export const middleOf = (frame, fps) => (frame + 0.5) / fps;

/** The frame that is on the screen at a time. */
export const frameAt = (second, fps) => Math.floor(second * fps + 1e-3);

/** The range to play: in and out points in seconds, each null if not set. */
export function looped(second, { from, to, end, loop }) {
  const last = to ?? end;
  if (second < last) return null;
  return loop || to !== null ? (loop ? from ?? 0 : null) : null;
}
