// The four states of a scene and of the frames under it. Pure.
import { starts } from "./script.js";

/**
 * State of each scene: "made" (all its frames are on disk), "making" (a window of it runs), "fixed" (it can no longer
 * change) or "free" (it can). made: frames on disk; earliest: first frame that can change; running: whether a worker is on it.
 * @returns {Array<{state: "made" | "making" | "fixed" | "free", share: number}>}
 */
export function sceneStates(script, made, earliest, running) {
  const first = starts(script);
  return script.scenes.map((one, i) => {
    const end = first[i] + one.frames;
    const share = Math.max(0, Math.min(1, (made - first[i]) / one.frames));
    const open = script.endless && i === script.scenes.length - 1;
    if (end <= made && !open) return { state: "made", share: 1 };
    if (first[i] < earliest) {
      const begun = first[i] <= made;
      return { state: running && begun ? "making" : begun && share > 0 ? "made" : "fixed", share };
    }
    return { state: "free", share: 0 };
  });
}

/** Rate of making and time left, from marks [time in ms, frames on disk] of the last half minute. */
export function pace(marks, made, frames) {
  const [from, to] = [marks[0], marks.at(-1)];
  if (!from || to[0] - from[0] < 500 || to[1] <= from[1]) return { fps: null, left: null };
  const fps = ((to[1] - from[1]) * 1000) / (to[0] - from[0]);
  return { fps, left: frames === null ? null : Math.max(0, frames - made) / fps };
}
