// Which seconds of a running video to keep in memory. Pure: ranges in, ranges out, all in seconds.

export const BEHIND = 120; // kept behind the play head
export const AHEAD = 60; // fetched ahead of it
export const GAP = 0.1; // a smaller gap between two ranges is jumped over

/** What to remove before more is appended. ranges: those buffered. Whole segments go, so it keeps clear of the head. */
export function evictions(ranges, head, behind = BEHIND, ahead = AHEAD * 2) {
  const found = [];
  for (const [start, end] of ranges) {
    if (start < head - behind - 10) found.push([start, Math.min(end, head - behind)]);
    if (end > head + ahead + 10) found.push([Math.max(start, head + ahead), end]);
  }
  return found;
}

/** The end of the range that holds the head; the head itself if none does. */
export function bufferedUntil(ranges, head) {
  let until = head;
  for (const [start, end] of ranges) if (start <= until + GAP && end > until) until = end;
  return until;
}

/** Whether a time can be shown without fetching. */
export const holds = (ranges, second) => ranges.some(([start, end]) => second >= start - 0.001 && second < end);

/** Where to go on when the head stands before a small gap; null if it does not. */
export function overGap(ranges, head) {
  const next = ranges.find(([start]) => start > head && start - head <= GAP * 2);
  return holds(ranges, head) || !next ? null : next[0];
}
