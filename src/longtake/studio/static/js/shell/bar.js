// The header: views, the machine, theme, language, keys; and the banner that stands there while the server is gone.
import { html, nothing, render, svg, throttled } from "../core/dom.js";
import { size } from "../core/format.js";
import { icon } from "../core/icons.js";
import { isMaking, openVideo, queueOf } from "../core/state.js";
import { languages, spoken, t } from "../core/words.js";

const LABELS = { en: "EN", zh: "中文" };

export function mountBar(root, banner, app) {
  const draw = throttled(() => {
    const state = app.store.get();
    render(bar(app, state), root);
    banner.classList.toggle("shown", state.gone);
    render(state.gone ? html`${icon("warning")}<span>${t("gone")}</span>` : nothing, banner);
    document.title = title(state);
  }, 250);
  app.store.on(["view", "videos", "device", "gone", "words", "open", "progress"], draw);
  draw();
}

const mark = svg`<svg viewBox="0 0 32 32" aria-hidden="true"><path class="strip" d="M5 16c0-4 3-6.500 6-6.500 5 0 5 13 10 13 3 0 6-2.500 6-6.500s-3-6.500-6-6.500c-5 0-5 13-10 13-3 0-6-2.500-6-6.500z"></path></svg>`;

function bar(app, state) {
  const jobs = queueOf(state);
  const link = (view, extra = nothing) => html`<a href="#${view}" aria-current=${state.view === view ? "page" : nothing} @click=${(event) => go(event, app, view)}>${t(view)}${extra}</a>`;
  const count = jobs.length ? html`<span class="count ${jobs.some(isMaking) ? "busy" : ""}">${jobs.length}</span>` : nothing;
  const others = languages().filter((name) => name !== spoken());
  return html`
    <a class="skip" href="#viewer" @click=${(event) => skip(event)}>${t("skip")}</a>
    <div class="brand">${mark}<span>longtake</span></div>
    <nav aria-label="longtake">${link("create")}${link("library")}${link("queue", count)}</nav>
    <div class="device ${state.gone ? "lost" : ""}" title=${state.device?.name ?? ""}><i></i><span>${deviceWords(state)}</span></div>
    <div class="tools">
      ${others.map((name) => html`<button class="plain language" lang=${name} title=${t("language")} @click=${() => app.setLanguage(name)}>${LABELS[name]}</button>`)}
      <button class="plain only" title=${t("theme")} aria-label=${t("theme")} @click=${() => app.toggleTheme()}>${icon("theme")}</button>
      <button class="plain only keys" title="${t("keys")} (?)" aria-label=${t("keys")} @click=${() => app.dialogs.keys()}>${icon("keys")}</button>
    </div>`;
}

function go(event, app, view) {
  event.preventDefault();
  app.show(view);
}

function skip(event) {
  event.preventDefault();
  document.getElementById("viewer").focus();
}

function deviceWords({ device }) {
  if (!device) return t("noDevice");
  const memory = device.memory ? ` · ${device.used === null ? size(device.memory) : t("memoryOf", { used: size(device.used), total: size(device.memory) })}` : "";
  return `${device.name}${memory}`;
}

/** Percent and prompt of what is being made, as the title of the tab. */
function title(state) {
  const running = Object.values(state.videos).find(isMaking);
  const shown = openVideo(state);
  if (!running) return shown ? `${shown.prompt} · longtake` : "longtake";
  const share = running.frames ? `${Math.floor((100 * running.made) / running.frames)} %` : t("live");
  return `${share} · ${running.prompt || "longtake"}`;
}
