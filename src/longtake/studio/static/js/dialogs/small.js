// The small dialogs: keys, extension, export of a range.
import { html } from "../core/dom.js";
import { clock } from "../core/format.js";
import { lengths, openVideo } from "../core/state.js";
import { t } from "../core/words.js";
import { openDialog } from "./dialog.js";

const KEYS = [
  [["Ctrl ↵"], "kMake"], [["Space"], "kPlay"], [["J", "K", "L"], "kShuttle"], [["←", "→"], "kFrame"], [["↑", "↓"], "kScene"], [["Home", "End"], "kEnds"],
  [["I", "O"], "kMarks"], [["F"], "kFull"], [["B"], "kSplit"], [["Del"], "kDelete"], [["Alt ←", "Alt →"], "kReorder"], [["Ctrl Z", "Ctrl ⇧ Z"], "kUndo"],
  [["=", "-"], "kZoom"], [["N"], "kNew"], [["Esc"], "kEsc"], [["?"], "kHelp"],
];

export function keysDialog(app) {
  return openDialog(t("keysTitle"), {
    body(close, redraw) {
      const letters = (event) => {
        app.setLetters(event.target.checked);
        redraw();
      };
      return html`
        <dl class="keylist">${KEYS.map(([keys, words]) => html`<dt>${keys.map((key) => html`<kbd>${key}</kbd>`)}</dt><dd>${t(words)}</dd>`)}</dl>
        <label class="note"><input type="checkbox" .checked=${app.store.get().letters} @change=${letters}> ${t("keysOff")}</label>
        <p class="note">${t("keysText")}</p>`;
    },
  });
}

export async function extendDialog(app, id) {
  const video = app.store.get().videos[id];
  const form = { prompt: video.prompt.split("\n").at(-1), seconds: 5 };
  const sent = await openDialog(t("extendTitle"), {
    body: () => html`
      <p class="note">${t("extendText")}</p>
      <div class="field"><label class="label" for="extend-prompt">${t("prompt")}</label><textarea id="extend-prompt" rows="3" autofocus .value=${form.prompt} @input=${(event) => (form.prompt = event.target.value)}></textarea></div>
      <div class="field"><label class="label" for="extend-by">${t("extendBy")}</label><input id="extend-by" type="number" min="0.5" step="0.5" .value=${String(form.seconds)} @input=${(event) => (form.seconds = Number(event.target.value))}></div>`,
    foot: (close) => html`<button @click=${() => close()}>${t("cancel")}</button><button class="primary" @click=${() => close(form)}>${t("extend")}</button>`,
  });
  if (sent?.seconds > 0) app.runs.extend(id, sent.prompt, sent.seconds);
}

/** Export from the in point to the out point (or all that is made) as mp4, GIF or PNG frames. */
export function exportDialog(app) {
  const state = app.store.get();
  const video = openVideo(state);
  const { made, fps } = lengths(state);
  const from = Math.floor((state.marks.from ?? 0) * fps);
  const to = Math.min(Math.round((state.marks.to ?? made) * fps), video.made);
  const link = (kind, label) => html`<a class="button" download href=${app.urls.range(video.id, from, to, kind)}>${t(label)}</a>`;
  return openDialog(t("rangeTitle"), {
    body: () => html`
      <p>${t("rangeText", { from: clock(from / fps), to: clock(to / fps), n: to - from })}</p>
      <p class="note">${t("rangeHint")}</p>`,
    foot: () => html`${link("png", "asPng")}${link("gif", "asGif")}${link("mp4", "asMp4")}`,
  });
}
