// The viewer: head with what can be done, the picture with what is happening over it, and the transport.
import { html, nothing, place, render, throttled } from "../core/dom.js";
import { clock, duration, number } from "../core/format.js";
import { icon } from "../core/icons.js";
import { isActive, isMaking, lengths, openVideo } from "../core/state.js";
import { t } from "../core/words.js";
import { change } from "../timeline/script.js";
import { pace } from "../timeline/states.js";
import { noticeView } from "./notices.js";
import { Player } from "./player.js";

const PARTS = ["open", "videos", "progress", "marks", "gone", "words", "draft", "live", "examples"];

export function mountStage(root, app) {
  const video = document.createElement("video");
  Object.assign(video, { playsInline: true, muted: true, preload: "auto" });
  video.setAttribute("aria-label", t("video"));
  const player = new Player(video, app.urls);
  app.player = player;
  const draw = throttled(() => {
    render(stage(app, app.store.get(), video), root);
    drawTime(root, app);
  }, 200);
  const now = throttled(() => drawTime(root, app), 0);
  app.store.on(PARTS, draw);
  player.addEventListener("time", now);
  player.addEventListener("feed", draw);
  for (const name of ["play", "pause", "ended", "loadeddata"]) video.addEventListener(name, draw);
  draw();
  return player;
}

function stage(app, state, video) {
  const shown = openVideo(state);
  return html`
    ${headView(app, shown)}
    ${viewer(app, state, shown, video)}
    ${transport(app, state, shown)}`;
}

function headView(app, video) {
  if (!video) return html`<div class="stage-head"><h1 class="dim">${t("newVideo")}</h1></div>`;
  const act = (name, label, run, disabled = false) => html`<button class="tool" ?disabled=${disabled} title=${t(label)} aria-label=${t(label)} @click=${run}>${icon(name, "small")}<span>${t(label)}</span></button>`;
  const whole = !isActive(video) && video.made > 0;
  return html`
    <div class="stage-head">
      <h1 title=${video.prompt}>${video.prompt}</h1>
      <div class="actions">
        ${act("copy", "copyForm", () => app.runs.useSettings(video.id))}
        ${act("again", "again", () => app.runs.again(video.id))}
        ${act("extend", "extend", () => app.dialogs.extend(video.id), !whole)}
        ${act("export", "exportRange", () => app.dialogs.exportRange(), video.made === 0)}
        ${act("plus", "newVideo", () => app.runs.open(null))}
      </div>
    </div>`;
}

function viewer(app, state, shown, video) {
  const notice = shown ? noticeView(app, state, shown) : nothing;
  const blank = !shown;
  const covered = notice !== nothing && shown?.made > 0;
  return html`
    <div class="viewer ${blank ? "blank" : ""} ${covered ? "covered" : ""}" id="viewer" tabindex="-1" @dblclick=${() => app.fullScreen()} @click=${(event) => event.target === video && app.player.toggle()}>
      ${blank ? html`<div class="empty">${icon("film")}<h2>${t("emptyTitle")}</h2><p>${t("emptyText")}</p>${examples(app, state)}</div>` : video}
      ${shown && !shown.made ? previewView(app, shown) : nothing}
      ${shown ? html`<div class="over badge" id="badge"></div>` : nothing}
      ${notice}
      ${isMaking(shown) ? progressLine(state, shown) : nothing}
    </div>`;
}

/** Prompts to begin with, for the model that is chosen. */
function examples(app, state) {
  if (!state.examples?.length) return nothing;
  const use = (prompt) => () => {
    app.draft.setScript(change(state.draft, 0, { prompt }));
    document.getElementById("prompt")?.focus();
  };
  return html`<div class="examples" role="group" aria-label=${t("examples")}>${state.examples.map((prompt) => html`<button @click=${use(prompt)}>${prompt}</button>`)}</div>`;
}

function previewView(app, video) {
  const picture = app.previews.url(video.id);
  return picture ? html`<img class="preview" alt=${t("previewTitle")} src=${picture}>` : nothing;
}

function badge(app, video) {
  const { player } = app;
  if (!isMaking(video) || !video.made) return statusChip(video);
  const behind = Math.max(0, player.made - player.time);
  return player.live
    ? html`<span><i></i>${t("live")}</span>`
    : html`<button class="late" @click=${() => player.goLive()} title=${t("toLive")}><i></i>${t("behind", { time: duration(behind) })}</button>`;
}

function statusChip(video) {
  const word = video.status === "completed" && video.stopped ? "stopped" : { queued: "waiting", starting: "running", stopping: "stopping", running: "running" }[video.status] ?? video.status;
  return html`<span>${t(word)}</span>`;
}

/** Segment k of n, step i of m, rate, time to go. */
function progressLine(state, video) {
  const facts = state.progress[video.id] ?? {};
  const { fps, left } = pace(facts.marks ?? [], video.made, video.frames);
  const k = video.segments + 1;
  const parts = [];
  if (facts.segments) parts.push(html`<b>${t("segment", { k: Math.min(k, facts.segments), n: facts.segments })}</b>`);
  else parts.push(html`<b>${t("segmentEndless", { k })}</b>`);
  if (facts.steps) parts.push(html`<span>${t("step", { i: facts.step, m: facts.steps })}</span>`);
  if (fps) parts.push(html`<span>${t("fpsNow", { fps: number(fps) })}</span>`);
  if (left !== null) parts.push(html`<span>${t("toGo", { time: duration(left) })}</span>`);
  if (video.status === "stopping") parts.push(html`<span>${t("stopping")}</span>`);
  return html`<div class="over progress-line">${parts}</div>`;
}

function transport(app, state, video) {
  const { player } = app;
  const none = !video?.made;
  const button = (name, label, run, extra = "") => html`<button class="only plain ${extra}" title=${t(label)} aria-label=${t(label)} ?disabled=${none} @click=${run}>${icon(name)}</button>`;
  const { marks } = state;
  return html`
    <div class="transport" role="group" aria-label=${t("video")}>
      ${button("first", "sceneBack", () => app.toBorder(-1))}
      ${button("back", "frameBack", () => player.step(-1), "frame-step")}
      <button class="play" aria-label=${t(player?.playing ? "pause" : "play")} ?disabled=${none} @click=${() => player.toggle()}>${icon(player?.playing ? "pause" : "play")}</button>
      ${button("forward", "frameOn", () => player.step(1), "frame-step")}
      ${button("last", "sceneOn", () => app.toBorder(1))}
      <span class="time tabular" id="clock"></span>
      <div class="scrub" id="scrub"><div class="made"></div>${marks.from !== null || marks.to !== null ? html`<div class="range"></div>` : nothing}
        <input type="range" min="0" max="1000" step="1" aria-label=${t("position")} ?disabled=${none} @input=${(event) => app.scrub(Number(event.target.value) / 1000)}></div>
      <span class="marks-group">
        ${button("markIn", "markIn", () => app.markHere("from"))}
        ${button("markOut", "markOut", () => app.markHere("to"))}
        ${marks.from !== null || marks.to !== null ? button("close", "clearMarks", () => app.setMarks({ from: null, to: null })) : nothing}
      </span>
      <button class="only plain" aria-pressed=${marks.loop} title=${t("loop")} aria-label=${t("loop")} ?disabled=${none} @click=${() => app.setMarks({ loop: !marks.loop })}>${icon("loop")}</button>
      ${button("full", "full", () => app.fullScreen())}
      <div class="wide">${mainAction(app, video)}</div>
    </div>`;
}

function mainAction(app, video) {
  if (!video) return nothing;
  if (video.status === "stopping") return html`<button disabled>${t("stop")}</button>`;
  if (isActive(video)) return html`<button class="danger stop" @click=${() => app.runs.stop(video.id)}>${icon("stop", "small")}${t("stop")}</button>`;
  const open = video.stopped || video.status === "failed";
  return open ? html`<button class="resume" @click=${() => app.runs.resume(video.id)}>${icon("play", "small")}${t("resume")}</button>` : nothing;
}

/** The parts that move with every frame; nothing else is drawn again. */
function drawTime(root, app) {
  const { player } = app;
  const state = app.store.get();
  const { fps, made, whole } = lengths(state);
  const span = Math.max(whole ?? made, made, 0.001);
  const scrub = root.querySelector("#scrub");
  const place_ = player.time / span;
  root.querySelector("#clock").textContent = openVideo(state) ? `${clock(player.time)} / ${whole === null ? "∞" : clock(whole)}` : clock(0);
  root.querySelector("#clock").title = `${Math.floor(player.time * fps)}`;
  const input = scrub.querySelector("input");
  if (document.activeElement !== input || player.playing) input.value = String(Math.round(place_ * 1000));
  input.setAttribute("aria-valuetext", clock(player.time));
  const { from, to } = state.marks;
  place(scrub, { "--made": String(Math.min(1, made / span)), "--in": String((from ?? 0) / span), "--out": String((to ?? span) / span) });
  const box = root.querySelector("#badge");
  if (box) render(badge(app, openVideo(state)), box);
}
