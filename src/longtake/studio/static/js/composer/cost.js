// What a video will cost, above the button: time, memory, disk. It follows every change of the form.
import { html, nothing } from "../core/dom.js";
import { duration, size } from "../core/format.js";
import { total } from "../timeline/script.js";
import { t } from "../core/words.js";
import { modelOf } from "../core/state.js";
import { isReady, requestOf } from "./form.js";

const WAIT = 350; // milliseconds after the last change

/** Three figures, or dashes while they are not known. */
export function costView(state, model) {
  const cost = state.cost ?? {};
  const has = state.device?.memory;
  const memory = cost.memory ?? model?.memory ?? null;
  const per = state.draft.endless ? ` ${t("perMinute")}` : "";
  const over = has && memory > has;
  const figure = (value, label, kind = "") => html`<div class=${kind} title=${value == null ? t("unknownCost") : nothing}><b>${value ?? "–"}</b>${label}</div>`;
  return html`
    <div class="cost ${cost.stale ? "stale" : ""}" role="status" aria-label=${costWords(cost, memory)}>
      ${figure(cost.seconds == null ? null : `${cost.measured === false ? "≈ " : ""}${duration(cost.seconds)}`, t("toMake") + per)}
      ${figure(memory == null ? null : size(memory), t("memory"), over ? "over" : "")}
      ${figure(cost.disk == null ? null : size(cost.disk), t("disk") + per)}
    </div>
    ${cost.error ? html`<p class="note bad" role="alert">${cost.error}</p>` : nothing}`;
}

function costWords(cost, memory) {
  const parts = [];
  if (cost.seconds != null) parts.push(`${duration(cost.seconds)} ${t("toMake")}`);
  if (memory != null) parts.push(`${size(memory)} ${t("memory")}`);
  if (cost.disk != null) parts.push(`${size(cost.disk)} ${t("disk")}`);
  return parts.join(", ");
}

/** What of a request decides the memory. */
const memoryKey = ({ model, width, height, strategy, num_inference_steps: steps }) => [model, width, height, strategy, steps].join(" ");

/** Ask the server for the plan and the cost of the form, once it rests. */
export function followCost(app) {
  const { store, videos } = app;
  let timer = 0;
  let asked = null;
  const memories = new Map();

  async function ask() {
    const state = store.get();
    if (!state.models.length || state.gone) return;
    const script = isReady(state.draft) ? state.draft : { ...state.draft, scenes: state.draft.scenes.map((one) => ({ ...one, prompt: one.prompt || "a" })) };
    const body = requestOf({ ...state.form, variations: 1 }, script, modelOf(state));
    asked?.abort();
    asked = new AbortController();
    try {
      const found = await videos.cost(body, asked.signal);
      askMemory(body, asked.signal);
      const times = state.draft.endless ? 1 : Math.max(1, Number(state.form.variations));
      store.set({ cost: { ...found, memory: memories.get(memoryKey(body)) ?? null, seconds: found.seconds == null ? null : found.seconds * times, disk: found.disk == null ? null : found.disk * times } });
    } catch (error) {
      if (error.name === "AbortError") return;
      store.set({ cost: error.status === 400 || error.status === 422 ? { error: error.message } : null });
    }
  }

  /** Memory does not depend on prompts, seeds and lengths, so it is asked for once for each of the rest. */
  async function askMemory(body, signal) {
    const key = memoryKey(body);
    if (memories.has(key)) return;
    const { image, last_image: last, scenes, loras, endless, num_frames: frames, ...rest } = body;
    const memory = await videos.memory({ ...rest, prompt: "any", num_frames: Math.min(frames ?? 240, 240) }, signal).catch(() => undefined);
    if (memory === undefined) return;
    memories.set(key, memory);
    store.set((state) => ({ cost: state.cost && { ...state.cost, memory } }));
  }

  function later() {
    clearTimeout(timer);
    store.set((state) => ({ cost: state.cost && { ...state.cost, stale: true, error: null } }));
    timer = setTimeout(ask, WAIT);
  }
  const relevant = (state) => JSON.stringify([requestOf(state.form, state.draft, modelOf(state)), total(state.draft)]);
  let before = "";
  store.on(["form", "draft", "models", "gone"], (state) => {
    const now = relevant(state) + state.gone;
    if (now !== before) later();
    before = now;
  });
}
