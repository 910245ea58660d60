// What most people leave alone, folded: negative prompt, steps, guidance, frame rate, LoRAs.
import { html, nothing } from "../core/dom.js";
import { icon } from "../core/icons.js";
import { number } from "../core/format.js";
import { t } from "../core/words.js";

export function moreView(app, state, model) {
  const { form } = state;
  return html`
    <details class="more">
      <summary>${icon("down", "small")}${t("more")}<span>${t("moreHint")}</span></summary>
      <div class="inside">
        <div class="field"><label class="label" for="negative">${t("negative")}</label>
          <textarea id="negative" rows="2" placeholder=${t("negativeHint")} .value=${form.negative} @input=${(event) => app.draft.setForm({ negative: event.target.value })}></textarea></div>
        <div class="pair">
          ${numberField(app, form, "steps", { min: 1, step: 1, hint: model?.steps })}
          ${numberField(app, form, "guidance", { min: 0, step: 0.5, hint: model?.guidance })}
        </div>
        ${lorasView(app, state)}
        <button type="button" class="tool" @click=${app.draft.reset}>${icon("undo", "small")}${t("reset")}</button>
      </div>
    </details>`;
}

function numberField(app, form, name, { min, step, hint }) {
  return html`
    <div class="field"><label class="label" for=${name}>${t(name)}</label>
      <input id=${name} type="number" min=${min} step=${step} placeholder=${hint ? `${hint} (${t("auto")})` : t("auto")} .value=${form[name]}
        @change=${(event) => app.draft.setForm({ [name]: event.target.value })}></div>`;
}

function lorasView(app, state) {
  const { form, loras } = state;
  const set = (list) => app.draft.setForm({ loras: list });
  const free = loras.filter((one) => !form.loras.some((used) => used.name === one.id));
  const add = (event) => {
    if (event.target.value) set([...form.loras, { name: event.target.value, strength: 1 }]);
    event.target.value = "";
  };
  return html`
    <div class="field">
      <label class="label" for="add-lora">${t("loras")}</label>
      ${form.loras.map((one, i) => html`
        <div class="lora">
          <span class="name" title=${one.name}>${one.name}</span>
          <input type="range" min="0" max="2" step="0.05" aria-label=${t("strength", { name: one.name })} .value=${String(one.strength)}
            @input=${(event) => set(form.loras.map((row, k) => (k === i ? { ...row, strength: Number(event.target.value) } : row)))}>
          <output>${number(one.strength, 2)}</output>
          <button type="button" class="tool only" aria-label=${t("removeImage", { name: one.name })} @click=${() => set(form.loras.toSpliced(i, 1))}>${icon("close", "small")}</button>
        </div>`)}
      ${free.length
        ? html`<select id="add-lora" @change=${add}><option value="">${t("addLora")}</option>${free.map((one) => html`<option value=${one.id}>${one.id}</option>`)}</select>`
        : form.loras.length ? nothing : html`<p class="note" id="add-lora">${t("noLoras")}</p>`}
    </div>`;
}
