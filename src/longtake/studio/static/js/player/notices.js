// What stands in the viewer when there is no picture to see: it waits, it loads, it failed.
import { html, nothing } from "../core/dom.js";
import { duration } from "../core/format.js";
import { queueOf } from "../core/state.js";
import { t } from "../core/words.js";

export function noticeView(app, state, video) {
  if (video.status === "failed") return failure(app, video);
  if (video.made > 0) return nothing;
  if (video.status === "queued") return waiting(state, video);
  if (video.status === "starting") return plain(t("startingTitle"), video.model);
  if (video.status === "running") return app.previews.url(video.id) ? nothing : plain(t("previewTitle"), video.prompt);
  if (video.status === "completed" && video.stopped) return plain(t("stoppedTitle"), "");
  return nothing;
}

const plain = (title, text) => html`<div class="notice"><h2>${title}</h2><p>${text}</p></div>`;

function waiting(state, video) {
  const before = queueOf(state).findIndex((one) => one.id === video.id);
  return plain(before <= 0 ? t("waitingNext") : t("waitingTitle", { n: before }), video.prompt);
}

function failure(app, video) {
  const kept = video.made / (video.fps || 24);
  const { message = "", code = "" } = video.error ?? {};
  return html`
    <div class="notice" role="alert">
      <h2>${t("failedTitle")}</h2>
      <p>${message}</p>
      ${kept ? html`<p>${t("kept", { what: t("keptSeconds", { time: duration(kept) }) })}</p>` : nothing}
      <div class="row">
        <button class="primary" @click=${() => app.runs.resume(video.id)}>${t("resume")}</button>
        <button @click=${() => app.runs.useSettings(video.id)}>${t("copyForm")}</button>
      </div>
      <details><summary>${t("details")}</summary><pre>${[code, video.id].filter(Boolean).join("\n")}</pre>
        <button @click=${() => app.copy(`${code}\n${message}\n${video.id}`)}>${t("copy")}</button></details>
    </div>`;
}
