// The tools above the lanes. Each acts on the selected scene or the play head, and has a key.
import { html, nothing } from "../core/dom.js";
import { icon } from "../core/icons.js";
import { t } from "../core/words.js";
import { BORDERS } from "./script.js";
import { NAMES, statesOf } from "./scenes.js";

export function toolsView(app, state, timeline, facts) {
  const { script } = facts;
  const i = Math.min(state.scene, (script?.scenes.length ?? 1) - 1);
  const one = script?.scenes[i];
  const free = !!one && statesOf(app, script)[i].state === "free";
  const tool = (name, label, run, enabled = true, key = "") => html`
    <button class="tool only" title=${key ? `${t(label)} (${key})` : t(label)} aria-label=${t(label)} ?disabled=${!enabled} @click=${run}>${icon(name, "small")}</button>`;
  const history = state.open ? state.live?.history : state.history;
  const several = (script?.scenes.length ?? 0) > 1;
  return html`
    <div class="tl-head" role="toolbar" aria-label=${t("timeline")}>
      <h2>${t(state.open ? "timeline" : "draft")}</h2>
      <div class="group">
        ${tool("split", "split", app.timeline.split, !!script, "B")}
        ${tool("plus", "insert", app.timeline.insert, !!script)}
        ${tool("copy", "duplicate", () => app.timeline.duplicate(i), !!script)}
        ${tool("back", "earlier", () => app.timeline.move(i, i - 1), free && i > 0, "Alt ←")}
        ${tool("forward", "later", () => app.timeline.move(i, i + 1), free && several && i < script.scenes.length - 1, "Alt →")}
        ${tool("trash", "removeThis", () => app.timeline.remove(i), free && several)}
      </div>
      <span class="rule"></span>
      ${one && i > 0 ? borderKind(app, one, i, free) : nothing}
      ${one ? html`<span class="about wide-only"><b>${i + 1}</b> · ${one.prompt}</span>` : nothing}
      <span class="space"></span>
      <div class="group">
        ${tool("undo", "undo", app.timeline.undo, !!history?.past.length, "Ctrl Z")}
        ${tool("redo", "redo", app.timeline.redo, !!history?.future.length, "Ctrl ⇧ Z")}
      </div>
      <span class="rule wide-only"></span>
      <div class="group wide-only">
        ${tool("minus", "zoomOut", () => timeline.zoom(-1), timeline.scale.zoom > 0, "-")}
        ${tool("plus", "zoomIn", () => timeline.zoom(1), true, "=")}
        ${tool("fit", "fit", () => timeline.zoom(null), timeline.scale.zoom > 0, "\\")}
      </div>
      ${fileMenu(app, script)}
    </div>`;
}

function borderKind(app, one, i, free) {
  const name = NAMES[one.cut];
  return html`
    <select aria-label=${t("borderKind", { n: i + 1 })} title=${t(`${name}About`)} ?disabled=${!free} .value=${String(one.cut)}
      @change=${(event) => app.timeline.setCut(i, BORDERS.find((kind) => String(kind) === event.target.value))}>
      ${BORDERS.map((kind) => html`<option value=${String(kind)} title=${t(`${NAMES[kind]}About`)} ?selected=${kind === one.cut}>${t(NAMES[kind])}</option>`)}
    </select>`;
}

function fileMenu(app, script) {
  const close = (run) => (event) => {
    event.target.closest("details").open = false;
    run(event);
  };
  const choose = close((event) => app.timeline.importFile(event.target.files[0]));
  return html`
    <details class="menu">
      <summary class="button tool" role="button" title=${t("importScript")}>${icon("export", "small")}<span class="visually-hidden">${t("importScript")}</span></summary>
      <div class="list">
        <label class="button tool">${icon("import", "small")}${t("importScript")}<input type="file" class="visually-hidden" accept=".toml,.txt,text/plain" @change=${choose}></label>
        <button ?disabled=${!script} @click=${close(() => app.timeline.exportFile("toml"))}>${icon("export", "small")}${t("exportToml")}</button>
        <button ?disabled=${!script} @click=${close(() => app.timeline.exportFile("txt"))}>${icon("export", "small")}${t("exportLines")}</button>
      </div>
    </details>`;
}
