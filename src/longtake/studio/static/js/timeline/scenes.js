// The scenes lane: blocks (a list box), borders between them (sliders), the line from which on the script can change.
import { html, nothing, place } from "../core/dom.js";
import { clock } from "../core/format.js";
import { icon } from "../core/icons.js";
import { isMaking, openVideo } from "../core/state.js";
import { t } from "../core/words.js";
import { toX, perSecond } from "./scale.js";
import { starts } from "./script.js";
import { sceneStates } from "./states.js";

const MARKS = { made: "check", making: null, fixed: "lock", free: null };
export const NAMES = { false: "go", true: "cut", anchor: "anchor", resample: "resample" };
export const GLYPHS = { true: "✂", anchor: "⚓", resample: "≈" };

/** State of every scene of the script on the screen. A draft can change everywhere. */
export function statesOf(app, script) {
  const state = app.store.get();
  const video = openVideo(state);
  if (!video) return script.scenes.map(() => ({ state: "free", share: 0 }));
  return sceneStates(script, video.made, Math.max(state.live?.earliest ?? 0, video.made), isMaking(video));
}

export const stateWords = (one) => (one.state === "making" ? t("beingMade", { share: Math.round(one.share * 100) }) : t(one.state));

export function scenesView(app, state, timeline, facts) {
  const { script } = facts;
  const states = statesOf(app, script);
  const first = starts(script);
  const of = script.scenes.length;
  const earliest = state.open ? state.live?.earliest ?? 0 : 0;
  return html`
    <div class="track" id="track">
      <div role="listbox" aria-orientation="horizontal" aria-label=${t("scenes")} @keydown=${(event) => onKey(event, app, timeline)}>
        ${script.scenes.map((one, i) => block(app, state, timeline, { one, i, of, from: first[i] / script.fps, fps: script.fps, status: states[i] }))}
      </div>
      ${script.scenes.map((one, i) => edge(script, { one, i, of, end: (first[i] + one.frames) / script.fps, fixed: first[i] + one.frames < earliest, timeline }))}
      ${script.scenes.map((one, i) => (i && one.cut ? html`<div class="joint" data-joint=${i} aria-hidden="true"><span title=${t(NAMES[one.cut])}>${GLYPHS[one.cut]}</span></div>` : nothing))}
      ${state.open && earliest > 0 ? html`<div class="horizon ${timeline.refusedAt !== null ? "flash" : ""}" data-horizon><span>${t("firstChange")}</span></div>` : nothing}
      ${timeline.reordering?.mark != null ? html`<div class="drop-mark" data-mark></div>` : nothing}
      ${timeline.editing === null ? nothing : editor(app, timeline, script)}
    </div>`;
}

function block(app, state, timeline, { one, i, of, from, fps, status }) {
  const to = from + one.frames / fps;
  const chosen = i === state.scene;
  const words = stateWords(status);
  const mark = MARKS[status.state];
  return html`
    <div class="scene ${status.state} ${chosen ? "chosen" : ""} ${timeline.reordering?.from === i ? "dragging" : ""}" role="option" aria-selected=${chosen}
      tabindex=${chosen ? 0 : -1} data-scene=${i} title=${one.prompt}
      @focus=${() => app.store.set({ scene: i })} @dblclick=${() => app.timeline.edit(i)}>
      <span class="visually-hidden">${t("sceneOf", { n: i + 1, of })}</span><b>${one.prompt || "…"}</b><small>${clock(from, 1)} – ${clock(to, 1)} · ${words}</small>${mark ? icon(mark, "mark") : nothing}
    </div>`;
}

function edge(script, { one, i, of, end, fixed, timeline }) {
  if (script.endless && i === of - 1) return nothing;
  return html`
    <div class="edge ${fixed ? "fixed" : ""} ${timeline.refusedAt === i ? "refused" : ""}" role="slider" tabindex="0" data-edge=${i} aria-orientation="horizontal"
      aria-label=${t("border")} aria-valuemin="0" aria-valuemax=${Math.round(timeline.scale.seconds * script.fps)} aria-valuenow=${Math.round(end * script.fps)}
      aria-valuetext=${t("borderValue", { n: i + 1, of, time: end.toFixed(2) })} aria-disabled=${fixed}></div>`;
}

function editor(app, timeline, script) {
  const i = timeline.editing;
  timeline.seen ??= script.scenes[i]?.prompt; // what the user begins to edit
  const { seen } = timeline;
  const key = (event) => {
    event.stopPropagation();
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      const text = event.target.value;
      app.timeline.edit(null);
      app.timeline.setPrompt(i, text, seen);
    } else if (event.key === "Escape") app.timeline.edit(null);
  };
  const leave = (event) => {
    if (timeline.editing !== i) return;
    const text = event.target.value;
    app.timeline.edit(null);
    app.timeline.setPrompt(i, text, seen);
  };
  return html`<div class="in-place" data-editor=${i}><textarea aria-label=${t("scenePrompt", { n: i + 1 })} .value=${seen ?? ""} @keydown=${key} @blur=${leave}></textarea></div>`;
}

/** Put blocks, borders and lines where the scale says; content policy allows no style attributes, so it is done here. */
export function placeScenes(root, app, timeline, { script }) {
  if (!script) return;
  const { scale } = timeline;
  const first = starts(script);
  const states = statesOf(app, script);
  const ends = script.scenes.map((one, i) => (script.endless && i === script.scenes.length - 1 ? scale.seconds : (first[i] + one.frames) / script.fps));
  const x = (second) => `${toX(scale, second).toFixed(1)}px`;
  for (const element of root.querySelectorAll("[data-scene]")) {
    const i = Number(element.dataset.scene);
    const from = first[i] / script.fps;
    const width = (ends[i] - from) * perSecond(scale);
    const shift = timeline.reordering?.from === i ? timeline.reordering.dx : 0;
    place(element, { "--x": `${(toX(scale, from) + shift).toFixed(1)}px`, "--w": `${width.toFixed(1)}px`, "--share": states[i].share.toFixed(3) });
    element.classList.toggle("narrow", width < 64);
  }
  for (const element of root.querySelectorAll("[data-edge]")) place(element, { "--x": x(ends[Number(element.dataset.edge)]) });
  for (const element of root.querySelectorAll("[data-joint]")) place(element, { "--x": x(first[Number(element.dataset.joint)] / script.fps) });
  const horizon = root.querySelector("[data-horizon]");
  if (horizon) place(horizon, { "--x": x((app.store.get().live?.earliest ?? 0) / script.fps) });
  const mark = root.querySelector("[data-mark]");
  if (mark) place(mark, { "--x": x(timeline.reordering.mark / script.fps) });
  const box = root.querySelector("[data-editor]");
  if (box) {
    const i = Number(box.dataset.editor);
    const left = Math.max(0, Math.min(toX(scale, first[i] / script.fps), scale.width - 280));
    place(box, { "--x": `${left}px`, "--w": `${((ends[i] - first[i] / script.fps) * perSecond(scale)).toFixed(0)}px` });
  }
}

/** Keys of the list box: arrows choose, Alt+arrows move, Enter edits, Delete removes. */
function onKey(event, app, timeline) {
  const { script } = timeline.facts;
  const now = app.store.get().scene;
  const go = (to) => {
    event.preventDefault();
    event.stopPropagation();
    app.timeline.select(Math.max(0, Math.min(script.scenes.length - 1, to)), true);
  };
  const way = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
  if (way && event.altKey) {
    event.preventDefault();
    event.stopPropagation();
    app.timeline.move(now, now + way);
  } else if (way && !event.shiftKey) go(now + way);
  else if (event.key === "Home") go(0);
  else if (event.key === "End") go(script.scenes.length - 1);
  else if (event.key === "Enter" || event.key === "F2") {
    event.preventDefault();
    app.timeline.edit(now);
  } else if (event.key === "Delete" || event.key === "Backspace") {
    event.preventDefault();
    app.timeline.remove(now);
  }
}
