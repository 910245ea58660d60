// One time scale for all lanes: seconds to pixels, zoom in powers of two, ticks. Pure.

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
const FOLLOW_AT = 0.8; // of the width: where the play head pushes the view on

/**
 * A scale shows `width` pixels of a timeline of `seconds`, from second `left` on, at 2 ** zoom times the fitting size.
 * @typedef {{width: number, seconds: number, zoom: number, left: number}} Scale
 */

export const perSecond = (scale) => (scale.width / Math.max(scale.seconds, 0.001)) * 2 ** scale.zoom;
export const toX = (scale, second) => (second - scale.left) * perSecond(scale);
export const toSecond = (scale, x) => x / perSecond(scale) + scale.left;
export const shown = (scale) => scale.width / perSecond(scale);

/** Keep the view inside the timeline. */
export function clamped(scale) {
  const zoom = Math.max(0, Math.min(12, scale.zoom));
  const left = Math.max(0, Math.min(scale.left, scale.seconds - shown({ ...scale, zoom })));
  return { ...scale, zoom, left };
}

/** Zoom by steps, with the time at `around` (a second) staying in its place. */
export function zoomed(scale, by, around) {
  const x = toX(scale, around);
  const zoom = Math.max(0, Math.min(12, scale.zoom + by));
  const next = { ...scale, zoom };
  return clamped({ ...next, left: around - x / perSecond(next) });
}

/** Move the view so that a moving play head stays before 80 % of it. */
export function following(scale, second) {
  if (scale.zoom === 0) return clamped({ ...scale, left: 0 });
  const span = shown(scale);
  if (second < scale.left || second > scale.left + span) return clamped({ ...scale, left: second - span * 0.2 });
  return second > scale.left + span * FOLLOW_AT ? clamped({ ...scale, left: second - span * FOLLOW_AT }) : scale;
}

/** Seconds of the labelled ticks, at least `room` pixels apart, and of the small ones between them. */
export function ticks(scale, room = 64) {
  const least = room / perSecond(scale);
  const step = STEPS.find((one) => one >= least) ?? Math.ceil(least / 3600) * 3600;
  const fine = step >= 5 ? step / 5 : step / 2;
  const end = Math.min(scale.seconds, scale.left + shown(scale)) + 1e-6;
  const list = (every) => {
    const found = [];
    for (let at = Math.ceil(scale.left / every) * every; at <= end; at += every) found.push(at);
    return found;
  };
  return { step, labelled: list(step), small: list(fine).filter((at) => at % step > 1e-6) };
}

/** Move a second onto a near border, tick or frame (within `reach` pixels). */
export function snapped(scale, second, points, reach = 6) {
  const near = points
    .map((point) => ({ point, apart: Math.abs(toX(scale, point) - toX(scale, second)) }))
    .sort((a, b) => a.apart - b.apart)[0];
  return near && near.apart <= reach ? near.point : second;
}
