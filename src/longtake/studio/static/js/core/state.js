// What the page knows, in one place, and the few questions that several views ask of it.
import { emptyHistory } from "../timeline/history.js";
import { scene, total } from "../timeline/script.js";
import { emptyForm } from "../composer/form.js";
import { t } from "./words.js";

export const DRAFT_FPS = 24;

/** The state before anything is loaded. The draft has the example prompt, so that one button makes a first video. */
export function initialState() {
  return {
    view: "create", // create, library or queue
    open: null, // id of the video in the viewer; null: the draft
    gone: false, // the server does not answer
    loaded: false, // the first snapshot is here
    videos: {}, // by id, as shapes.js makes them
    listed: [], // ids, the newest first
    more: false, // older ones are on the server
    progress: {}, // by id: window, step, marks
    models: [],
    loras: [],
    strategies: [],
    device: null,
    form: emptyForm(),
    draft: { fps: DRAFT_FPS, endless: false, scenes: [scene(t("example"), 5 * DRAFT_FPS)] },
    history: emptyHistory(), // of the draft
    live: null, // script of the open video: {id, script, base, earliest, revision, history, conflict}
    scene: 0, // the selected one
    cost: null,
    marks: { from: null, to: null, loop: false },
    chosen: [], // ids selected in the library
    letters: true, // single-letter keys act
  };
}

export const openVideo = (state) => (state.open ? state.videos[state.open] ?? null : null);
export const isActive = (video) => !!video && ["queued", "starting", "running", "stopping"].includes(video.status);
export const isMaking = (video) => !!video && ["starting", "running", "stopping"].includes(video.status);
export const modelOf = (state, id = state.form.model) => state.models.find((one) => one.id === id) ?? null;

/** The script that the timeline shows: that of the open video, or the draft. */
export function shownScript(state) {
  if (!state.open) return state.draft;
  return state.live?.id === state.open ? state.live.script : null;
}

/** Seconds of the video on disk, and of the whole (null: endless). */
export function lengths(state) {
  const video = openVideo(state);
  if (!video) return { fps: state.draft.fps, made: 0, whole: state.draft.endless ? null : total(state.draft) / state.draft.fps };
  const fps = video.fps || DRAFT_FPS;
  return { fps, made: video.made / fps, whole: video.frames === null ? null : video.frames / fps };
}

/** Jobs in the order in which they run. */
export function queueOf(state) {
  return Object.values(state.videos)
    .filter(isActive)
    .sort((a, b) => isMaking(b) - isMaking(a) || a.position - b.position || a.created - b.created);
}
