// The edits that turn the script of a running video into the one that the user wants. Pure.
//
// A run takes three edits: add (behind the end), insert (what follows comes later) and replace (the prompt from a frame to
// the end of the scene there). Any other change, such as a dragged border, is a few replacements in a row.
import { joined, starts, total } from "./script.js";

/**
 * @typedef {{op: "add" | "insert" | "replace", at: number | null, frames?: number, prompt: string, cut: boolean | string}} Edit
 * @typedef {{edits: Edit[], refused: null | {reason: "begun" | "shorter", at: number}}} Change
 */

const rowsOf = (script) => {
  const first = starts(script);
  return script.scenes.map((one, i) => ({ at: first[i], end: first[i] + one.frames, prompt: one.prompt, cut: one.cut }));
};

/** The first frame at which two scripts differ; null if they are equal. */
export function firstDifference(before, after) {
  const [a, b] = [rowsOf(joined(before)), rowsOf(joined(after))];
  for (let i = 0; i < Math.max(a.length, b.length); i += 1) {
    if (!a[i] || !b[i]) return (a[i] ?? b[i]).at;
    if (a[i].prompt !== b[i].prompt || a[i].cut !== b[i].cut) return Math.min(a[i].at, b[i].at);
    if (a[i].end !== b[i].end) return Math.min(a[i].end, b[i].end);
  }
  return null;
}

/**
 * Return the edits from one script to another, or why they are refused.
 * @param {number} earliest first frame that can still change
 * @returns {Change}
 */
export function editsBetween(before, after, earliest) {
  const at = firstDifference(before, after);
  if (at === null) return { edits: [], refused: null };
  const behind = !before.endless && at >= total(before);
  if (at < earliest && !behind) return { edits: [], refused: { reason: "begun", at } };
  const longer = total(after) - total(before);
  if (longer < 0 && !before.endless) return { edits: [], refused: { reason: "shorter", at: total(after) } };
  const one = insertion(before, after, at, longer);
  return { edits: one ?? replacements(before, after, at, longer), refused: null };
}

/** The single insertion that makes the change, if there is one. */
function insertion(before, after, at, longer) {
  if (longer <= 0) return null;
  const added = rowsOf(after).find((row) => row.at === at);
  if (!added || added.end - added.at !== longer) return null;
  const shifted = rowsOf(joined(after)).filter((row) => row.at > at).map((row) => [row.at - longer, row.prompt, row.cut]);
  const kept = rowsOf(joined(before)).filter((row) => row.at >= at).map((row) => [row.at, row.prompt, row.cut]);
  if (JSON.stringify(shifted) !== JSON.stringify(kept)) return null;
  const op = !before.endless && at >= total(before) ? "add" : "insert";
  return [{ op, at: op === "add" ? null : at, frames: longer, prompt: added.prompt, cut: added.cut }];
}

/** Replacements from the first difference on, after the video was made longer where it must be. */
function replacements(before, after, at, longer) {
  const edits = [];
  const rows = rowsOf(before);
  const wanted = rowsOf(joined(after));
  if (longer > 0) {
    const last = wanted.at(-1);
    const row = { at: total(before), end: total(after), prompt: last.prompt, cut: false };
    edits.push({ op: "add", at: null, frames: longer, prompt: last.prompt, cut: false });
    rows.push(row);
  }
  for (const scene of wanted.filter((one) => one.end > at)) {
    let from = Math.max(scene.at, at);
    while (from < scene.end) {
      const index = rows.findLastIndex((row) => row.at <= from);
      const row = rows[index];
      const cut = from === scene.at ? scene.cut : false;
      const has = row.at === from ? row.cut : false;
      if (row.prompt !== scene.prompt || (has || false) !== (cut || false)) {
        edits.push({ op: "replace", at: from, prompt: scene.prompt, cut });
        const parts = row.at < from ? [{ ...row, end: from }] : [];
        rows.splice(index, 1, ...parts, { at: from, end: row.end, prompt: scene.prompt, cut });
      }
      from = row.end;
    }
  }
  return edits;
}
