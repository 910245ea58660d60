// Undo and redo: a list of what was, and a place in it. Pure.

const MOST = 200;

export const emptyHistory = () => ({ past: [], future: [] });

/** Note what was before a change. A change of the same `kind` within its run (typing) is one step. */
export function noted(history, before, kind = "") {
  const last = history.past.at(-1);
  if (kind && last?.kind === kind) return { past: history.past, future: [] };
  return { past: [...history.past, { value: before, kind }].slice(-MOST), future: [] };
}

/** End the run of a kind, so that the next change of it is a step of its own. */
export function settled(history) {
  return { ...history, past: history.past.map((step) => (step.kind ? { ...step, kind: "" } : step)) };
}

/** Return the history and the value one step back, or null. */
export function undone(history, now) {
  const step = history.past.at(-1);
  if (!step) return null;
  return { value: step.value, history: { past: history.past.slice(0, -1), future: [...history.future, { value: now, kind: "" }] } };
}

/** Return the history and the value one step forward again, or null. */
export function redone(history, now) {
  const step = history.future.at(-1);
  if (!step) return null;
  return { value: step.value, history: { past: [...history.past, { value: now, kind: "" }], future: history.future.slice(0, -1) } };
}
