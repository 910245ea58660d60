// What events of the server change in the state. Pure: (state, event) -> the changed parts.
import { videoOf } from "./shapes.js";

const WINDOW = 30_000; // milliseconds over which the rate of making is measured

/** The names of the events that the page follows. */
export const NAMES = ["snapshot", "reset", "state", "window_started", "window_done", "step_done", "segment_written", "scene_changed", "edit", "model"];

/**
 * @param {object} state
 * @param {string} name
 * @param {object} data
 * @param {number} now milliseconds
 * @returns {object} parts of the state
 */
export function applied(state, name, data, now) {
  if (name === "snapshot") return snapshot(state, data);
  if (name === "state") return data.video ? withVideo(state, videoOf(data.video)) : without(state, data.id);
  const video = state.videos[data.id];
  if (!video) return {};
  const progress = state.progress[data.id] ?? { marks: [] };
  if (name === "window_started") return withProgress(state, data.id, { ...progress, window: data.window, steps: data.steps, step: 0, running: true });
  if (name === "step_done") return withProgress(state, data.id, { ...progress, window: data.window, step: data.step, steps: data.steps, running: true });
  if (name === "segment_written") {
    const made = Math.max(video.made, data.first + data.frames);
    const marks = [...progress.marks, [now, made]].filter(([at], i, all) => now - at < WINDOW || i >= all.length - 2);
    const segments = video.frames ? Math.ceil(video.frames / Math.max(1, data.first ? data.first / data.segment : data.frames)) : null;
    return {
      ...withVideo(state, { ...video, made, segments: Math.max(video.segments, data.segment + 1) }),
      ...withProgress(state, data.id, { ...progress, marks, segments }),
    };
  }
  return {};
}

function snapshot(state, data) {
  const found = (data.videos ?? data.data ?? []).map(videoOf);
  const videos = { ...state.videos, ...Object.fromEntries(found.map((one) => [one.id, one])) };
  return { videos, loaded: true };
}

function withVideo(state, video) {
  const before = state.videos[video.id];
  const made = Math.max(before && before.status !== "queued" ? before.made : 0, video.made);
  const listed = before ? {} : { listed: [video.id, ...state.listed] };
  return { videos: { ...state.videos, [video.id]: { ...before, ...video, made } }, ...listed };
}

function without(state, id) {
  const { [id]: gone, ...videos } = state.videos;
  return { videos, listed: state.listed.filter((one) => one !== id) };
}

const withProgress = (state, id, progress) => ({ progress: { ...state.progress, [id]: progress } });
