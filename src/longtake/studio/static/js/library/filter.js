// Search and order of the library. Pure.

export const ORDERS = {
  newest: (a, b) => b.created - a.created,
  oldest: (a, b) => a.created - b.created,
  longest: (a, b) => length(b) - length(a),
  prompts: (a, b) => a.prompt.localeCompare(b.prompt),
};

const length = (video) => video.made / (video.fps || 24);

/** Videos whose prompt, model or seed holds every word, in the chosen order. */
export function matching(videos, { text, order, starred }) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const has = (video) => {
    const all = `${video.prompt} ${video.model} ${video.seed ?? ""}`.toLowerCase();
    return words.every((word) => all.includes(word));
  };
  return videos.filter((video) => (!starred || video.starred) && has(video)).sort(ORDERS[order]);
}

/** Settings of two videos that differ: [name, first, second]. */
export function differing(one, two) {
  const names = [...new Set([...Object.keys(one), ...Object.keys(two)])];
  return names.map((name) => [name, shownValue(one[name]), shownValue(two[name])]).filter(([, a, b]) => a !== b);
}

function shownValue(value) {
  if (value === undefined || value === null || value === "") return "–";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
