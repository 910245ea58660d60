// The timeline: tools, ruler, scenes, frames and plan on one time scale, with a play head over all of them.
import { html, nothing, place, render, throttled } from "../core/dom.js";
import { lengths, openVideo, shownScript } from "../core/state.js";
import { clock } from "../core/format.js";
import { t } from "../core/words.js";
import { cardsView } from "./cards.js";
import { startDrags } from "./drag.js";
import { drawFrames, drawPlan, drawRuler, planWords } from "./lanes.js";
import { clamped, following, perSecond, shown, toX, zoomed } from "./scale.js";
import { placeScenes, scenesView } from "./scenes.js";
import { starts, total } from "./script.js";
import { toolsView } from "./tools.js";

const PARTS = ["open", "videos", "draft", "live", "scene", "progress", "cost", "marks", "words", "history", "gone"];

export function mountTimeline(root, app) {
  const timeline = {
    scale: { width: 600, seconds: 10, zoom: 0, left: 0 },
    follow: true,
    snap: true,
    preview: null, // the script while a border is dragged
    editing: null, // number of the scene that is edited in place
    reordering: null, // {from, to} while a block is dragged
    refusedAt: null, // a border that snapped back
    root,
  };
  app.timelineView = timeline;
  const draw = throttled(() => drawAll(root, app, timeline), 60);
  const head = throttled(() => drawHead(root, app, timeline), 0);
  timeline.draw = draw;
  timeline.zoom = (by) => {
    const around = app.player.time;
    timeline.scale = by === null ? { ...timeline.scale, zoom: 0, left: 0 } : zoomed(timeline.scale, by, around);
    draw();
  };
  app.store.on(PARTS, draw);
  app.player.addEventListener("time", head);
  app.thumbs.onLoad(draw);
  new ResizeObserver(draw).observe(root);
  matchMedia("(prefers-color-scheme: light)").addEventListener("change", draw);
  startDrags(root, app, timeline);
  draw();
}

/** The script as it is drawn, and how long the lanes are. */
function measured(app, timeline) {
  const state = app.store.get();
  const script = timeline.preview ?? shownScript(state);
  const { made, fps, whole } = lengths(state);
  if (!script) return { script: null, seconds: Math.max(whole ?? 0, made, 1), made, fps };
  const planned = total(script) / script.fps;
  const seconds = script.endless ? Math.max(planned, made + 2) : Math.max(planned, made);
  return { script, seconds, made, fps: script.fps };
}

function drawAll(root, app, timeline) {
  const state = app.store.get();
  const facts = measured(app, timeline);
  timeline.facts = facts;
  render(layout(app, state, timeline, facts), root);
  root.setAttribute("aria-label", t("timeline"));
  root.classList.toggle("is-draft", !state.open);
  const track = root.querySelector(".track");
  if (!track) return;
  const width = track.clientWidth || timeline.scale.width;
  if (!timeline.preview) timeline.scale = clamped({ ...timeline.scale, width, seconds: facts.seconds });
  placeScenes(root, app, timeline, facts);
  drawLanes(root, app, timeline, facts);
  drawScroll(root, timeline);
  drawHead(root, app, timeline);
}

function layout(app, state, timeline, facts) {
  const video = openVideo(state);
  return html`
    ${toolsView(app, state, timeline, facts)}
    <div class="lanes">
      <div class="lane ruler" id="ruler"><canvas aria-hidden="true"></canvas></div>
      <div class="lane scenes"><h3>${t("scenes")}</h3>${facts.script ? scenesView(app, state, timeline, facts) : html`<div class="track"></div>`}</div>
      <div class="lane thumbs"><h3>${t("frames")}</h3><canvas role="img" aria-label=${t("framesSummary", { time: clock(facts.made, 1) })}></canvas></div>
      <div class="lane plan"><h3>${t("plan")}</h3><canvas role="img" aria-label=${planWords(app, state)}></canvas></div>
      <div class="head-line" aria-hidden="true"></div>
    </div>
    <div class="tl-scroll" ?hidden=${timeline.scale.zoom === 0}><input type="range" min="0" max="1000" aria-label=${t("position")} @input=${(event) => scrolled(event, timeline)}></div>
    ${facts.script && video ? cardsView(app, state, timeline, facts) : nothing}`;
}

function drawLanes(root, app, timeline, facts) {
  const { scale } = timeline;
  drawRuler(root.querySelector("#ruler canvas"), scale, app.store.get().marks);
  const thumbs = root.querySelector(".lane.thumbs canvas");
  if (thumbs) drawFrames(thumbs, scale, facts, openVideo(app.store.get()), app.thumbs);
  drawPlan(root.querySelector(".lane.plan canvas"), scale, facts, app);
}

function scrolled(event, timeline) {
  const span = shown(timeline.scale);
  const left = (Number(event.target.value) / 1000) * Math.max(0, timeline.scale.seconds - span);
  timeline.follow = false;
  timeline.scale = clamped({ ...timeline.scale, left });
  timeline.draw();
}

function drawScroll(root, timeline) {
  const input = root.querySelector(".tl-scroll input");
  const room = timeline.scale.seconds - shown(timeline.scale);
  input.value = String(room > 0 ? Math.round((timeline.scale.left / room) * 1000) : 0);
}

function drawHead(root, app, timeline) {
  const line = root.querySelector(".head-line");
  if (!line) return;
  const second = app.player.time;
  if (timeline.follow && app.player.playing && !timeline.preview && !timeline.reordering) {
    const next = following(timeline.scale, second);
    if (next.left !== timeline.scale.left) {
      timeline.scale = next;
      timeline.draw();
    }
  }
  const x = toX(timeline.scale, second);
  line.hidden = x < -1 || x > timeline.scale.width + 1;
  place(line, { "--x": `${x.toFixed(1)}px` });
}

/** Points that a dragged border holds on to: whole seconds, other borders, the play head. */
export function snapPoints(app, timeline, except) {
  const { script } = timeline.facts;
  const borders = starts(script).filter((_, i) => i !== except + 1).map((frame) => frame / script.fps);
  const whole = perSecond(timeline.scale) > 24 ? Array.from({ length: Math.ceil(timeline.scale.seconds) + 1 }, (_, i) => i) : [];
  return [...borders, app.player.time, ...whole];
}
