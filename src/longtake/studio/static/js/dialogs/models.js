// The models: what each needs beside what the machine has, its licence, and a download of those that are not here.
import { html, nothing } from "../core/dom.js";
import { size } from "../core/format.js";
import { icon } from "../core/icons.js";
import { failed } from "../core/toasts.js";
import { t } from "../core/words.js";
import { openDialog } from "./dialog.js";

export function modelsDialog(app) {
  let leave = () => {};
  return openDialog(t("chooseModel"), {
    kind: "models",
    body(close, redraw) {
      leave();
      leave = app.store.on(["models", "device"], redraw);
      const state = app.store.get();
      const pick = (id) => () => {
        app.draft.setForm({ model: id, size: { kind: "own", width: null, height: null }, strategy: "", steps: "", guidance: "", fps: "" });
        close();
      };
      const sorted = [...state.models].sort((a, b) => b.here - a.here);
      return html`<div class="model-list">${sorted.map((model) => modelCard(app, state, model, pick(model.id)))}</div>`;
    },
    onClose: () => leave(),
  });
}

function modelCard(app, state, model, pick) {
  const has = state.device?.memory;
  const fits = !model.memory || !has || model.memory <= has;
  const act = model.here
    ? html`<button class=${model.id === state.form.model ? "" : "primary"} ?disabled=${model.id === state.form.model} @click=${pick}>${t("useThis")}</button>`
    : downloadButton(app, model);
  return html`
    <section class="model ${model.id === state.form.model ? "chosen" : ""}">
      <h3>${model.id}<span class="chip ${model.here ? "good" : ""}">${t(model.builtIn ? "builtIn" : model.here ? "here" : "absent")}</span></h3>
      <div class="act">${act}</div>
      <p>${model.about ? model.about[0].toUpperCase() + model.about.slice(1) : nothing}</p>
      <div class="facts">
        ${model.size ? html`<span>${t("modelNative", { size: `${model.size[1]}×${model.size[0]}`, fps: model.fps })}</span>` : nothing}
        ${model.memory ? html`<span class=${fits ? "good" : "bad"}>${fits ? t("needs", { size: size(model.memory) }) : t("tooBig", { needs: size(model.memory), has: size(has) })}</span>` : nothing}
        ${model.licence ? html`<span>${t("licence", { name: model.licence })}</span>` : nothing}
        ${model.image === "needed" ? html`<span>${t("needsImage")}</span>` : model.image === "optional" ? html`<span>${t("takesImage")}</span>` : nothing}
      </div>
      ${model.here || model.download ? nothing : html`<p class="get">${t("getWith")} <code>${command(model)}</code></p>`}
      ${model.download?.bytes ? html`<progress max=${model.download.total || 1} .value=${model.download.bytes} aria-label=${model.id}></progress>` : nothing}
    </section>`;
}

/** What gets a model that the page cannot download: the command says its size and licence first. */
const command = (model) => `longtake generate "a test" --model ${model.id} --seconds 1`;

function downloadButton(app, model) {
  const { download } = model;
  if (download?.running) {
    const share = download.total ? Math.round((100 * download.bytes) / download.total) : 0;
    return html`<button @click=${() => app.videos.cancelDownload(model.id).catch(failed)}>${t("downloading", { share })} · ${t("cancel")}</button>`;
  }
  if (!model.download) return html`<button @click=${() => app.copy(command(model))}>${icon("copy", "small")}${t("copyCommand")}</button>`;
  return html`<button @click=${() => app.videos.download(model.id).then(app.loadModels, failed)}>${t("download", { size: model.bytes ? size(model.bytes) : "" })}</button>`;
}
