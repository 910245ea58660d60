// A script as the page edits it: scenes laid end to end, counted in output frames. Pure: each function returns a new script.

/**
 * @typedef {{key: number, prompt: string, frames: number, cut: boolean | string, lora?: Array<[string, number]>}} Scene
 * @typedef {{fps: number, endless: boolean, scenes: Scene[]}} Script
 */

export const BORDERS = [false, true, "anchor", "resample"]; // ways for a scene to start; the words are in words/*.js
export const SECONDS = 5; // of a scene without a length
let keys = 0;

/** Make a scene. @returns {Scene} */
export function scene(prompt, frames, cut = false, lora = undefined) {
  keys += 1;
  return { key: keys, prompt, frames: Math.max(1, Math.round(frames)), cut, ...(lora?.length ? { lora } : {}) };
}

/** First frame of every scene. */
export function starts(script) {
  let at = 0;
  return script.scenes.map((one) => (at += one.frames) - one.frames);
}

/** Frames of the whole script; of an endless one, those of its scenes so far. */
export const total = (script) => script.scenes.reduce((sum, one) => sum + one.frames, 0);

/** Number of the scene at a frame; the last one has no end. */
export function sceneAt(script, frame) {
  const first = starts(script);
  return Math.max(0, first.findLastIndex((start) => start <= frame));
}

const withScenes = (script, scenes) => ({ ...script, scenes });

/** Change some fields of a scene. */
export function change(script, index, fields) {
  return withScenes(script, script.scenes.map((one, i) => (i === index ? { ...one, ...fields } : one)));
}

/** Move the end of a scene to a frame: the scene after it gives or takes the difference; the last one changes the length. */
export function moveBorder(script, index, frame, least = 1) {
  const start = starts(script)[index];
  const [left, right] = [script.scenes[index], script.scenes[index + 1]];
  const most = right ? start + left.frames + right.frames - least : Infinity;
  const end = Math.round(Math.min(most, Math.max(start + least, frame)));
  const moved = change(script, index, { frames: end - start });
  return right ? change(moved, index + 1, { frames: left.frames + right.frames - (end - start) }) : moved;
}

/** Cut the scene at a frame in two, both with its prompt. Unchanged where a border is already. */
export function split(script, frame) {
  const index = sceneAt(script, frame);
  const one = script.scenes[index];
  const before = Math.round(frame) - starts(script)[index];
  if (before < 1 || before >= one.frames) return script;
  const rest = scene(one.prompt, one.frames - before, false, one.lora);
  return withScenes(script, script.scenes.toSpliced(index, 1, { ...one, frames: before }, rest));
}

/** Put a scene behind scene `index` (-1: before all); what follows comes later. */
export function insertAfter(script, index, added) {
  return withScenes(script, script.scenes.toSpliced(index + 1, 0, added));
}

/** Put a copy of a scene behind it. */
export function duplicate(script, index) {
  const one = script.scenes[index];
  return insertAfter(script, index, scene(one.prompt, one.frames, one.cut, one.lora));
}

/** Take a scene out. keepLength: the scene before it (or after the first) takes its time. The last scene stays. */
export function remove(script, index, keepLength = false) {
  if (script.scenes.length < 2) return script;
  const gone = script.scenes[index];
  const rest = withScenes(script, script.scenes.toSpliced(index, 1));
  const heir = Math.max(0, index - 1);
  return keepLength ? change(rest, heir, { frames: rest.scenes[heir].frames + gone.frames }) : rest;
}

/** Move a scene from one place in the order to another. */
export function reorder(script, from, to) {
  const target = Math.max(0, Math.min(script.scenes.length - 1, to));
  return withScenes(script, script.scenes.toSpliced(from, 1).toSpliced(target, 0, script.scenes[from]));
}

/** Stretch or shorten the last scenes so that the script lasts so many frames; scenes that no longer fit go. */
export function withLength(script, frames) {
  const first = starts(script);
  const kept = script.scenes.filter((_, i) => first[i] < frames);
  const last = kept.length - 1;
  return withScenes(script, kept.map((one, i) => (i === last ? { ...one, frames: frames - first[i] } : one)));
}

/** Count the same seconds in frames of another rate. */
export function withFps(script, fps) {
  if (fps === script.fps) return script;
  const scenes = script.scenes.map((one) => ({ ...one, frames: Math.max(1, Math.round((one.frames / script.fps) * fps)) }));
  return { ...script, fps, scenes };
}

/** Join neighbours with the same prompt and no cut between them: they are one scene to a viewer. */
export function joined(script) {
  const scenes = [];
  for (const one of script.scenes) {
    const before = scenes.at(-1);
    const same = before && !one.cut && one.prompt === before.prompt && `${one.lora}` === `${before.lora}`;
    if (same) scenes[scenes.length - 1] = { ...before, frames: before.frames + one.frames };
    else scenes.push(one);
  }
  return withScenes(script, scenes);
}
