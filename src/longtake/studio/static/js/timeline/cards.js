// The timeline of a narrow screen: a list of scenes with steppers instead of a lane with borders to drag.
import { html, nothing } from "../core/dom.js";
import { clock } from "../core/format.js";
import { icon } from "../core/icons.js";
import { t } from "../core/words.js";
import { stateWords, statesOf } from "./scenes.js";
import { moveBorder, starts } from "./script.js";

const ICONS = { made: "check", making: "film", fixed: "lock", free: "unlock" };

export function cardsView(app, state, timeline, { script }) {
  const states = statesOf(app, script);
  const first = starts(script);
  return html`<ol class="scene-cards">${script.scenes.map((one, i) => card(app, state, script, { one, i, from: first[i], status: states[i] }))}</ol>`;
}

function card(app, state, script, { one, i, from, status }) {
  const end = from + one.frames;
  const open = script.endless && i === script.scenes.length - 1;
  const by = (seconds) => () => app.timeline.apply(moveBorder(script, i, end + seconds * script.fps, 1), { border: i });
  return html`
    <li class="scene-card ${status.state}">
      ${icon(ICONS[status.state])}
      <div><p>${one.prompt}</p><small>${clock(from / script.fps, 1)} – ${open ? "∞" : clock(end / script.fps, 1)} · ${stateWords(status)}</small></div>
      <div class="stepper">${status.state === "free" && !open
        ? html`<button class="only" aria-label="−1 s" @click=${by(-1)}>${icon("minus", "small")}</button><button class="only" aria-label="+1 s" @click=${by(1)}>${icon("plus", "small")}</button>`
        : nothing}</div>
      ${status.state === "free" ? html`<textarea aria-label=${t("scenePrompt", { n: i + 1 })} .value=${one.prompt} @change=${(event) => app.timeline.setPrompt(i, event.target.value)}></textarea>` : nothing}
    </li>`;
}
