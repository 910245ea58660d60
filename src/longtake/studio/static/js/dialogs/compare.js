// Two videos side by side: one clock for both, and the settings that differ.
import { html } from "../core/dom.js";
import { clock } from "../core/format.js";
import { icon } from "../core/icons.js";
import { failed } from "../core/toasts.js";
import { t } from "../core/words.js";
import { differing } from "../library/filter.js";
import { openDialog } from "./dialog.js";

const APART = 0.04; // seconds that the second video may be off before it is set right

export async function compareDialog(app, ids) {
  const videos = ids.map((id) => app.store.get().videos[id]);
  const settings = await Promise.all(ids.map((id) => app.videos.comparable(id))).catch((error) => {
    failed(error);
    return [{}, {}];
  });
  const rows = differing(...settings);
  const pair = new Pair();
  return openDialog(t("compareTitle"), {
    kind: "compare",
    body(close, redraw) {
      pair.onChange = redraw;
      return html`
        <div class="two">${videos.map((video, i) => html`
          <figure><div class="pic"><video muted playsinline src=${app.urls.content(video.id)} aria-label=${video.prompt} @loadedmetadata=${(event) => pair.set(i, event.target)}></video></div>
          <figcaption>${video.prompt}</figcaption></figure>`)}</div>
        <div class="controls">
          <button class="only" aria-label=${t(pair.playing ? "pause" : "play")} @click=${() => pair.toggle()}>${icon(pair.playing ? "pause" : "play")}</button>
          <input type="range" min="0" max="1000" aria-label=${t("position")} .value=${String(pair.share)} @input=${(event) => pair.seek(Number(event.target.value) / 1000)}>
          <span class="tabular">${clock(pair.time)}</span>
        </div>
        ${rows.length ? differences(rows) : html`<p class="note">${t("same")}</p>`}`;
    },
    onClose: () => pair.close(),
  });
}

const differences = (rows) => html`
  <h3 class="label">${t("differing")}</h3>
  <table><tbody>${rows.map(([name, one, two]) => html`<tr><th scope="row">${name}</th><td>${one}</td><td>${two}</td></tr>`)}</tbody></table>`;

/** Two <video> elements that keep the same time. */
class Pair {
  constructor() {
    this.videos = [null, null];
    this.onChange = () => {};
  }

  set(i, video) {
    if (this.videos[i] === video) return;
    this.videos[i] = video;
    if (i === 0) for (const name of ["timeupdate", "play", "pause", "ended"]) video.addEventListener(name, () => this._keep());
  }

  get playing() {
    return !!this.videos[0] && !this.videos[0].paused && !this.videos[0].ended;
  }

  get time() {
    return this.videos[0]?.currentTime ?? 0;
  }

  get length() {
    return Math.max(...this.videos.map((video) => video?.duration || 0), 0.01);
  }

  get share() {
    return Math.round((this.time / this.length) * 1000);
  }

  toggle() {
    const stop = this.playing;
    for (const video of this.videos) if (stop) video?.pause(); else video?.play().catch(() => {});
  }

  seek(share) {
    for (const video of this.videos) if (video) video.currentTime = Math.min(share * this.length, (video.duration || 0) - 0.01);
    this.onChange();
  }

  _keep() {
    const [one, two] = this.videos;
    if (two && Math.abs(two.currentTime - one.currentTime) > APART && one.currentTime < (two.duration || 0)) two.currentTime = one.currentTime;
    if (two && one.paused && !two.paused) two.pause();
    this.onChange();
  }

  close() {
    for (const video of this.videos) {
      video?.pause();
      video?.removeAttribute("src");
      video?.load();
    }
  }
}
