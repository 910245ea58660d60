// The form on the left: prompt and scenes, images, model, length, seed, strategy, the rest folded; cost and one button.
import { html, nothing, render, throttled } from "../core/dom.js";
import { icon } from "../core/icons.js";
import { modelOf } from "../core/state.js";
import { t } from "../core/words.js";
import { change, insertAfter, remove, scene, total, withLength } from "../timeline/script.js";
import { costView } from "./cost.js";
import { LENGTHS, askedSize, isReady, randomSeed, sizePresets } from "./form.js";
import { imagesView } from "./images.js";
import { moreView } from "./more.js";

export function mountComposer(root, app) {
  const draw = throttled(() => render(composer(app, app.store.get()), root), 30);
  app.store.on(["form", "draft", "models", "loras", "strategies", "cost", "scene", "open", "gone", "words", "device"], draw);
  draw();
}

function composer(app, state) {
  root_label();
  const model = modelOf(state);
  const ready = isReady(state.draft) && !state.gone;
  const n = Number(state.form.variations);
  return html`
    <form class="scroll" @submit=${(event) => event.preventDefault()} aria-label=${t("composer")}>
      ${promptsView(app, state)}
      ${imagesView(app, state, model)}
      ${modelView(app, model)}
      ${sizeAndLength(app, state, model)}
      ${seedView(app, state)}
      ${strategyView(app, state, model)}
      ${moreView(app, state, model)}
    </form>
    <div class="foot">
      ${costView(state, model)}
      <button class="primary go" ?disabled=${!ready} @click=${() => app.make()}>
        ${n > 1 ? t("makeN", { n }) : t("make")}<kbd aria-hidden="true">Ctrl ↵</kbd>
      </button>
    </div>`;
}

function root_label() {
  document.getElementById("composer").setAttribute("aria-label", t("composer"));
}

function promptsView(app, state) {
  const { draft } = state;
  const type = (i) => (event) => app.draft.setScript(change(app.store.get().draft, i, { prompt: event.target.value }), `type ${i}`);
  const one = draft.scenes.length === 1;
  const add = () => {
    const script = app.store.get().draft;
    app.draft.setScript(insertAfter(script, script.scenes.length - 1, scene("", 5 * script.fps)));
    app.store.set({ scene: script.scenes.length });
    requestAnimationFrame(() => setTimeout(() => document.querySelector("#composer .scene-row:last-child textarea")?.focus(), 60));
  };
  const rows = html`<div class="scene-list">${draft.scenes.map((row, i) => sceneRow(app, state, row, i, type(i)))}</div>`;
  const single = html`<textarea class="prompt" id="prompt" rows="4" placeholder=${t("promptHint")} .value=${draft.scenes[0].prompt}
      @input=${type(0)} @blur=${app.draft.settle}></textarea>`;
  return html`
    <div class="field">
      <label class="label" for=${one ? "prompt" : "prompt-0"}>${one ? t("prompt") : t("scenes")}</label>
      ${one ? single : rows}
      <button class="tool add-scene" type="button" @click=${add}>${icon("plus", "small")}${t("addScene")}</button>
    </div>`;
}

function sceneRow(app, state, row, i, type) {
  const { draft } = state;
  const seconds = +(row.frames / draft.fps).toFixed(2);
  const last = i === draft.scenes.length - 1;
  const time = (event) => {
    const value = Number(event.target.value);
    if (value > 0) app.draft.setScript(change(app.store.get().draft, i, { frames: Math.max(1, Math.round(value * draft.fps)) }));
    else event.target.value = seconds;
  };
  const away = () => {
    app.draft.setScript(remove(app.store.get().draft, i));
    app.store.set({ scene: Math.max(0, i - 1) });
  };
  return html`
    <div class="scene-row ${i === state.scene ? "selected" : ""}">
      <textarea id="prompt-${i}" rows="2" aria-label=${t("scenePrompt", { n: i + 1 })} placeholder=${t("promptHint")} .value=${row.prompt}
        @input=${type} @focus=${() => app.store.set({ scene: i })} @blur=${app.draft.settle}></textarea>
      <div class="secs"><input type="number" min="0.1" step="0.5" aria-label=${t("secondsOf", { n: i + 1 })} .value=${String(seconds)}
        ?disabled=${draft.endless && last} @change=${time}></div>
      <button class="tool only" type="button" aria-label=${t("removeScene", { n: i + 1 })} @click=${away}>${icon("close", "small")}</button>
    </div>`;
}

function modelView(app, model) {
  const facts = model
    ? [model.size ? t("modelNative", { size: `${model.size[1]}×${model.size[0]}`, fps: model.fps }) : "", model.memory ? t("needs", { size: app.size(model.memory) }) : t("builtIn")]
    : [];
  return html`
    <div class="field">
      <span class="label" aria-hidden="true">${t("model")}</span>
      <button class="picker" type="button" aria-haspopup="dialog" @click=${() => app.dialogs.models()}>
        <span><span class="visually-hidden">${t("model")}: </span><b>${model?.id ?? app.store.get().form.model}</b><small>${facts.filter(Boolean).join(" · ")}</small></span>${icon("down")}
      </button>
      ${fitNote(app, model)}
    </div>`;
}

function fitNote(app, model) {
  const has = app.store.get().device?.memory;
  if (!model?.memory || !has || model.memory <= has) return nothing;
  return html`<p class="note warn">${icon("warning")}${t("tooBig", { needs: app.size(model.memory), has: app.size(has) })}</p>`;
}

function sizeAndLength(app, state, model) {
  const { draft } = state;
  const seconds = total(draft) / draft.fps;
  const pick = (value) => () => app.draft.setScript({ ...withLength(app.store.get().draft, Math.round(value * draft.fps)), endless: false });
  const other = (event) => {
    const value = Number(event.target.value);
    if (value > 0) pick(value)();
    else event.target.value = +seconds.toFixed(2);
  };
  const endless = () => app.draft.setScript({ ...draft, endless: !draft.endless });
  return html`
    <div class="field">
      <span class="label" id="length-label">${t("length")}</span>
      <div class="pair">
        <div class="segmented" role="group" aria-labelledby="length-label">
          ${LENGTHS.map((one) => html`<button type="button" aria-pressed=${!draft.endless && Math.abs(seconds - one) < 0.01} @click=${pick(one)}>${one} s</button>`)}
          <button type="button" aria-pressed=${draft.endless} @click=${endless}>∞<span class="visually-hidden"> ${t("endless")}</span></button>
        </div>
        <div class="scene-row-secs secs"><input type="number" min="0.1" step="1" aria-label=${`${t("length")}, ${t("seconds")}`} .value=${draft.endless ? "" : String(+seconds.toFixed(2))}
          placeholder=${t("endless")} ?disabled=${draft.endless} @change=${other}></div>
      </div>
    </div>
    ${model?.size && sizePresets(model).length ? sizeView(app, state, model) : nothing}`;
}

function sizeView(app, state, model) {
  const { size, first } = state.form;
  const value = size.kind === "preset" ? `${size.width}x${size.height}` : size.kind;
  const presets = sizePresets(model);
  const known = presets.some((one) => `${one.width}x${one.height}` === value) || size.kind !== "preset";
  const set = (event) => {
    const [width, height] = event.target.value.split("x").map(Number);
    app.draft.setForm({ size: height ? { kind: "preset", width, height } : { kind: event.target.value, width: null, height: null } });
  };
  const fitted = askedSize({ ...state.form, size: { kind: "image" } }, model);
  return html`
    <div class="field"><label class="label" for="size">${t("size")}</label>
      <select id="size" .value=${value} @change=${set}>
        <option value="own" ?selected=${value === "own"}>${t("sizeOwn")} · ${model.size[1]}×${model.size[0]}</option>
        ${first ? html`<option value="image" ?selected=${value === "image"}>${t("sizeImage")} · ${fitted?.join("×")}</option>` : nothing}
        ${presets.map((one) => html`<option value=${`${one.width}x${one.height}`} ?selected=${value === `${one.width}x${one.height}`}>${t(one.name)} · ${one.width}×${one.height}</option>`)}
        ${known ? nothing : html`<option value=${value} selected>${value.replace("x", "×")}</option>`}
      </select>
    </div>`;
}

function seedView(app, state) {
  const { form } = state;
  const set = (event) => app.draft.setForm({ seed: Math.max(0, Math.floor(Number(event.target.value) || 0)) });
  return html`
    <div class="pair">
      <div class="field"><label class="label" for="seed">${t("seed")}</label>
        <div class="seed">
          <input id="seed" type="number" min="0" step="1" .value=${String(form.seed)} @change=${set}>
          <button type="button" class="only" title=${t("roll")} aria-label=${t("roll")} ?disabled=${form.lockSeed} @click=${() => app.draft.setForm({ seed: randomSeed() })}>${icon("dice")}</button>
          <button type="button" class="only" title=${t("lockSeed")} aria-label=${t("lockSeed")} aria-pressed=${form.lockSeed} @click=${() => app.draft.setForm({ lockSeed: !form.lockSeed })}>${icon(form.lockSeed ? "lock" : "unlock")}</button>
        </div>
      </div>
      <div class="field"><span class="label" id="variations">${t("variations")}</span>
        <div class="segmented" role="group" aria-labelledby="variations">
          ${[1, 2, 4, 6].map((n) => html`<button type="button" aria-pressed=${form.variations === n} @click=${() => app.draft.setForm({ variations: n })}>${n}</button>`)}
        </div>
      </div>
    </div>`;
}

function strategyView(app, state, model) {
  const { form, strategies } = state;
  const own = strategies.find((one) => one.name === model?.strategy);
  const chosen = strategies.find((one) => one.name === form.strategy) ?? own;
  return html`
    <div class="field"><label class="label" for="strategy">${t("strategy")}</label>
      <select id="strategy" .value=${form.strategy} @change=${(event) => app.draft.setForm({ strategy: event.target.value, other: {} })}>
        <option value="" ?selected=${!form.strategy}>${t("strategyAuto")}${own ? ` · ${own.title}` : ""}</option>
        ${strategies.map((one) => html`<option value=${one.name} ?selected=${one.name === form.strategy}>${one.title}</option>`)}
      </select>
      ${chosen ? html`<p class="note about">${sentence(chosen.about)}</p>` : nothing}
    </div>`;
}

/** A line of the registry as a sentence. */
const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;
