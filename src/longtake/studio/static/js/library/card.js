// A card of the library: picture that plays under the pointer, prompt, facts, what can be done.
import { html, nothing, render } from "../core/dom.js";
import { clock, when } from "../core/format.js";
import { icon } from "../core/icons.js";
import { isActive, isMaking } from "../core/state.js";
import { spoken, t } from "../core/words.js";

const KINDS = { queued: "", starting: "warn", running: "warn", stopping: "warn", failed: "bad" };
const WORDS = { queued: "waiting", starting: "running", running: "running", stopping: "running", failed: "failed" };

export function cardView(app, element, video, chosen) {
  element.className = `card ${chosen ? "selected" : ""}`;
  element.dataset.id = video.id;
  element.setAttribute("role", "listitem");
  element.setAttribute("aria-label", video.prompt);
  if (element.tabIndex !== 0) element.tabIndex = -1;
  render(inside(app, video, chosen), element);
}

function inside(app, video, chosen) {
  const seconds = video.made / (video.fps || 24);
  const facts = [video.model, video.width ? `${video.width}×${video.height}` : null, video.seed === null ? null : `${t("seed")} ${video.seed}`, when(video.created, spoken())].filter(Boolean);
  const act = (name, label, run, enabled = true) => html`<button class="tool only" title=${t(label)} aria-label=${t(label)} ?disabled=${!enabled} @click=${run}>${icon(name, "small")}</button>`;
  const done = !isActive(video) && video.made > 0;
  return html`
    <div class="pic" @click=${() => app.runs.open(video.id)} @pointerenter=${(event) => hover(app, event, video)} @pointerleave=${leave}>
      ${video.made ? html`<img loading="lazy" alt="" src=${app.urls.thumbnail(video.id)}>` : icon("film")}
      ${seconds ? html`<span class="len">${clock(seconds, 1)}</span>` : nothing}
      <span class="state">${chip(video)}</span>
      ${isMaking(video) && video.frames ? html`<progress max=${video.frames} .value=${video.made} aria-label=${t("beingMade", { share: Math.round((100 * video.made) / video.frames) })}></progress>` : nothing}
    </div>
    <div class="marks">
      <button class="starred" aria-pressed=${video.starred} aria-label=${t(video.starred ? "unstar" : "star")} @click=${() => app.runs.star(video.id)}>${icon("star", "small")}</button>
      <button aria-pressed=${chosen} aria-label=${t("select")} title=${t("select")} @click=${() => app.runs.choose(video.id)}>${icon("compare", "small")}</button>
    </div>
    <div class="text"><p>${video.prompt || "…"}</p><small>${facts.join(" · ")}</small></div>
    <div class="acts">
      ${act("play", "open", () => app.runs.open(video.id))}
      ${act("copy", "copyForm", () => app.runs.useSettings(video.id))}
      ${act("again", "again", () => app.runs.again(video.id))}
      ${act("extend", "extend", () => app.dialogs.extend(video.id), done)}
      ${act("trash", "remove", () => app.runs.remove(video.id))}
    </div>`;
}

function chip(video) {
  const stopped = video.status === "completed" && video.stopped;
  if (video.status === "completed" && !stopped) return nothing;
  return html`<span class="chip ${stopped ? "" : KINDS[video.status] ?? ""}">${t(stopped ? "stopped" : WORDS[video.status] ?? video.status)}</span>`;
}

/** Play the video in the card while the pointer is on it. */
function hover(app, event, video) {
  if (!video.made || isActive(video) || event.pointerType === "touch") return;
  const clip = document.createElement("video");
  Object.assign(clip, { muted: true, loop: true, playsInline: true, src: app.urls.content(video.id) });
  clip.className = "hover";
  clip.setAttribute("aria-hidden", "true");
  event.currentTarget.append(clip);
  clip.play().catch(() => {});
}

function leave(event) {
  for (const clip of event.currentTarget.querySelectorAll("video.hover")) {
    clip.removeAttribute("src");
    clip.load();
    clip.remove();
  }
}
