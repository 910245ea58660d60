// The queue: what is being made and what waits, in an order that can be changed by dragging or by buttons.
import { html, nothing, render, throttled } from "../core/dom.js";
import { clock, duration, number } from "../core/format.js";
import { icon } from "../core/icons.js";
import { isMaking, queueOf } from "../core/state.js";
import { announce } from "../core/toasts.js";
import { t } from "../core/words.js";
import { pace } from "../timeline/states.js";

export function mountQueue(root, app) {
  const draw = throttled(() => {
    const state = app.store.get();
    if (state.view === "queue") render(queue(app, state), root);
  }, 250);
  app.store.on(["view", "videos", "progress", "words"], draw);
}

function queue(app, state) {
  const jobs = queueOf(state);
  const waiting = jobs.filter((one) => !isMaking(one));
  return html`
    <div class="inner">
      <div class="page-head"><h1>${t("queue")}</h1><span class="count">${t("found", { n: jobs.length })}</span></div>
      ${jobs.length ? nothing : html`<div class="empty">${icon("film")}<h2>${t("queueEmpty")}</h2><p>${t("queueEmptyText")}</p><button class="primary" @click=${() => app.show("create")}>${t("newVideo")}</button></div>`}
      <ol class="queue-list">${jobs.map((video) => job(app, state, video, waiting))}</ol>
    </div>`;
}

function job(app, state, video, waiting) {
  const place = waiting.indexOf(video);
  const act = (name, label, run, enabled = true) => html`<button class="tool only" title=${t(label)} aria-label=${`${t(label)}: ${video.prompt}`} ?disabled=${!enabled} @click=${run}>${icon(name, "small")}</button>`;
  const move = (to) => () => {
    app.runs.moveTo(video.id, to);
    announce(t("moved", { n: place + 1, to: to + 1, of: waiting.length }));
  };
  return html`
    <li class="job ${isMaking(video) ? "running" : ""}" draggable=${place >= 0} data-id=${video.id} aria-label=${video.prompt}
      @dragstart=${(event) => event.dataTransfer.setData("application/x-longtake-job", video.id)}
      @dragover=${(event) => onOver(event, place)} @dragleave=${(event) => event.currentTarget.classList.remove("over-top")} @drop=${(event) => onDrop(event, app, place)}>
      <div class="pic">${video.made ? html`<img loading="lazy" alt="" src=${app.urls.thumbnail(video.id)}>` : html`<span class="place">${place >= 0 ? place + 1 : "…"}</span>`}</div>
      <div class="words"><p>${video.prompt}</p><small>${facts(state, video)}</small>
        ${isMaking(video) && video.frames ? html`<progress max=${video.frames} .value=${video.made} aria-label=${video.prompt}></progress>` : nothing}</div>
      <div class="acts">
        ${place >= 0 ? html`${act("up", "earlier", move(place - 1), place > 0)}${act("down", "later", move(place + 1), place < waiting.length - 1)}` : nothing}
        ${act("play", "open", () => app.runs.open(video.id))}
        ${act("copy", "duplicate", () => app.runs.again(video.id))}
        ${isMaking(video) ? act("stop", "stop", () => app.runs.stop(video.id), video.status !== "stopping") : act("close", "cancel", () => app.runs.remove(video.id))}
      </div>
    </li>`;
}

function facts(state, video) {
  const length = video.frames === null ? t("endless") : video.frames ? clock(video.frames / (video.fps || 24), 1) : "";
  const parts = [video.model, length];
  if (isMaking(video)) {
    const about = state.progress[video.id] ?? {};
    const { fps, left } = pace(about.marks ?? [], video.made, video.frames);
    if (about.steps) parts.push(t("step", { i: about.step, m: about.steps }));
    if (fps) parts.push(t("fpsNow", { fps: number(fps) }));
    if (left !== null) parts.push(t("toGo", { time: duration(left) }));
  }
  return parts.filter(Boolean).join(" · ");
}

function onOver(event, place) {
  if (place < 0 || !event.dataTransfer.types.includes("application/x-longtake-job")) return;
  event.preventDefault();
  event.currentTarget.classList.add("over-top");
}

function onDrop(event, app, place) {
  event.currentTarget.classList.remove("over-top");
  const id = event.dataTransfer.getData("application/x-longtake-job");
  if (!id || place < 0) return;
  event.preventDefault();
  event.stopPropagation();
  app.runs.moveTo(id, place);
}
