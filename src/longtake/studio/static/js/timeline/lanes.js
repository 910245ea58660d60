// The lanes that are drawn: ruler, frames, plan. Each canvas is as sharp as the screen, and has a text beside it.
import { clock } from "../core/format.js";
import { openVideo } from "../core/state.js";
import { t } from "../core/words.js";
import { perSecond, ticks, toX } from "./scale.js";

/** Prepare a canvas of the size of its box; returns the pen, and the colours of the theme. */
function pen(canvas) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const style = getComputedStyle(document.documentElement);
  return { context, width, height, colour: (name) => style.getPropertyValue(`--${name}`).trim() };
}

export function drawRuler(canvas, scale, marks) {
  const { context, height, colour } = pen(canvas);
  const { step, labelled, small } = ticks(scale);
  context.fillStyle = colour("edge");
  for (const second of small) context.fillRect(toX(scale, second), height - 5, 1, 5);
  context.font = "11px Inter, system-ui, sans-serif";
  context.textBaseline = "top";
  for (const second of labelled) {
    const x = toX(scale, second);
    context.fillStyle = colour("edge");
    context.fillRect(x, height - 9, 1, 9);
    context.fillStyle = colour("dim");
    const text = step < 1 ? clock(second, 1) : clock(second, 0);
    context.fillText(text, Math.min(x + 4, scale.width - context.measureText(text).width), 3);
  }
  if (marks.from === null && marks.to === null) return;
  const [from, to] = [toX(scale, marks.from ?? 0), toX(scale, marks.to ?? scale.seconds)];
  context.fillStyle = colour("accent-soft");
  context.fillRect(from, 0, to - from, height);
  context.fillStyle = colour("accent");
  for (const x of [from, to]) context.fillRect(x - 1, 0, 2, height);
}

/** Frames of what is made, as many as fit side by side; what is not made yet is an outline. */
export function drawFrames(canvas, scale, { made, fps }, video, thumbs) {
  const { context, width, height, colour } = pen(canvas);
  const aspect = video?.width ? video.width / video.height : 16 / 9;
  const cell = Math.max(24, Math.round(height * aspect));
  const end = Math.min(width, toX(scale, scale.seconds));
  const step = 2 ** Math.max(-3, Math.floor(Math.log2(cell / perSecond(scale)))); // seconds between two pictures
  for (let x = 0; x < end; x += cell) {
    const wide = Math.min(cell - 2, end - x);
    const second = scale.left + (x + wide / 2) / perSecond(scale);
    const picture = second < made ? thumbs.at(video, second, fps, step) : null;
    context.beginPath();
    context.roundRect(x, 0, wide, height, 4);
    if (!picture) {
      context.fillStyle = colour(second < made ? "hover" : "control");
      context.fill();
      continue;
    }
    context.save();
    context.clip();
    context.drawImage(picture, 0, 0, picture.width * (wide / (cell - 2)), picture.height, x, 0, wide, height);
    context.restore();
  }
}

/** Windows of the plan of what is on the screen: {first, end (frames), index}, the one that runs filling up. */
export function plannedWindows(app, state) {
  return (state.open ? state.live?.windows : state.cost?.windows) ?? [];
}

export function drawPlan(canvas, scale, { made, fps }, app) {
  const { context, height, colour } = pen(canvas);
  const state = app.store.get();
  const facts = state.progress[state.open] ?? {};
  plannedWindows(app, state).forEach((one, i) => {
    const [x, end] = [toX(scale, one.first / fps), toX(scale, one.end / fps)];
    if (end < 0 || x > scale.width) return;
    const now = state.open && facts.window === one.index && facts.running;
    const done = state.open && !now && (one.end / fps <= made + 0.01 || one.index < (facts.window ?? -1));
    const high = height / 2 - 1;
    const top = i % 2 ? height / 2 + 1 : 0;
    context.beginPath();
    context.roundRect(x + 0.5, top + 0.5, Math.max(2, end - x - 1), high - 1, 3);
    context.fillStyle = done ? colour("made-edge") : colour("control");
    context.fill();
    if (now) {
      context.save();
      context.clip();
      context.fillStyle = colour("accent-strong");
      context.fillRect(x, top, (end - x) * Math.min(1, facts.step / Math.max(1, facts.steps)), high);
      context.restore();
    }
    context.strokeStyle = now ? colour("accent") : done ? colour("made-edge") : colour("edge");
    context.stroke();
  });
}

/** The plan in words, for those who do not see it. */
export function planWords(app, state) {
  const windows = plannedWindows(app, state);
  const { made, fps } = openVideo(state) ?? { made: 0, fps: 24 };
  const done = state.open ? windows.filter((one) => one.end <= made).length : 0;
  return fps ? t("planSummary", { done, n: windows.length }) : "";
}
