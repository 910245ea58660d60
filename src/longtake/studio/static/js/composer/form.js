// The form as data: its fields, what it asks of the server, and how it is filled from the settings of a video. Pure.
import { scene, starts, total } from "../timeline/script.js";

export const LENGTHS = [5, 10, 30]; // seconds, as buttons
const OPTIONS = { steps: "num_inference_steps", guidance: "guidance_scale", fps: "fps" };

/** A form that leaves every choice to the model. */
export function emptyForm() {
  return {
    model: "pocket",
    size: { kind: "own", width: null, height: null }, // own, image, or preset with width and height
    seed: 0,
    lockSeed: false,
    variations: 1,
    first: null, // an image: {file id, url, name, width, height}
    last: null,
    loras: [], // [{name, strength}]
    strategy: "",
    steps: "",
    guidance: "",
    fps: "",
    negative: "",
    other: {}, // options of a restored video that the form has no field for
  };
}

/** A random seed that a person can read out. */
export const randomSeed = (random = Math.random) => Math.floor(random() * 1_000_000);

/** Round a size to what the model's patches allow, at about the model's number of pixels. */
export function fittedSize(aspect, model) {
  const [height, width] = model.size;
  const [rows, columns] = model.multiple ?? [16, 16];
  const pixels = height * width;
  const wide = Math.sqrt(pixels * aspect);
  const to = (value, step) => Math.max(step, Math.round(value / step) * step);
  return { width: to(wide, columns), height: to(wide / aspect, rows) };
}

/** The size that the form asks for: [width, height], or null for the model's own. */
export function askedSize(form, model) {
  if (form.size.kind === "preset") return [form.size.width, form.size.height];
  if (form.size.kind === "image" && form.first && model?.size) {
    const fit = fittedSize(form.first.width / form.first.height, model);
    return [fit.width, fit.height];
  }
  return null;
}

/** The presets of a model: landscape, portrait and square at its number of pixels. */
export function sizePresets(model) {
  const [height, width] = model.size;
  if (height === width) return [];
  const square = fittedSize(1, model);
  return [
    { name: "landscape", width: Math.max(width, height), height: Math.min(width, height) },
    { name: "portrait", width: Math.min(width, height), height: Math.max(width, height) },
    { name: "square", ...square },
  ];
}

/** The part of an image that is shown when it is cut to an aspect: [left, top, width, height] in pixels of the image. */
export function crop(image, aspect) {
  const own = image.width / image.height;
  const width = own > aspect ? image.height * aspect : image.width;
  const height = own > aspect ? image.height : image.width / aspect;
  return [(image.width - width) / 2, (image.height - height) / 2, width, height];
}

/** Whether the form says so much that a video can be made of it. */
export const isReady = (script) => script.scenes.every((one) => one.prompt.trim());

/** What to send to the server. */
export function requestOf(form, script, model) {
  const body = { model: form.model, seed: form.seed, ...form.other };
  const last = script.scenes.length - 1;
  if (last === 0) body.prompt = script.scenes[0].prompt;
  else body.scenes = script.scenes.map((one, i) => sceneOf(one, script.fps, script.endless && i === last));
  if (script.endless) body.endless = true;
  else body.num_frames = total(script);
  const size = askedSize(form, model);
  if (size) [body.width, body.height] = size;
  if (form.negative.trim()) body.negative_prompt = form.negative.trim();
  if (form.strategy) body.strategy = form.strategy;
  for (const [field, name] of Object.entries(OPTIONS)) if (form[field] !== "") body[name] = Number(form[field]);
  if (form.loras.length) body.loras = form.loras.map((one) => [one.name, one.strength]);
  if (form.first) body.image = form.first.id;
  if (form.last) body.last_image = form.last.id;
  if (form.variations > 1) body.n = form.variations;
  return body;
}

function sceneOf(one, fps, open) {
  const found = { prompt: one.prompt };
  if (!open) found.seconds = +(one.frames / fps).toFixed(6);
  if (one.cut) found.cut = one.cut;
  return found;
}

/**
 * Fill form and script from the settings of a video.
 * @param {object} settings with the names of the server's requests, and a script {scenes, starts, frames}
 */
export function formOf(settings, fps, frames, before = emptyForm()) {
  const form = { ...emptyForm(), model: settings.model ?? before.model, seed: settings.seed ?? 0, lockSeed: before.lockSeed };
  form.strategy = settings.strategy ?? "";
  form.negative = settings.negative_prompt ?? "";
  for (const [field, name] of Object.entries(OPTIONS)) if (settings[name] !== undefined && settings[name] !== null) form[field] = String(settings[name]);
  form.loras = (settings.loras ?? []).map(([name, strength]) => ({ name, strength }));
  if (settings.width && settings.height) form.size = { kind: "preset", width: settings.width, height: settings.height };
  form.other = settings.other ?? {};
  return { form, script: scriptOf(settings.scenes ?? [{ prompt: settings.prompt ?? "" }], fps, frames) };
}

/** A script of the page from scenes of the server: {prompt, seconds or start, cut, lora}. frames: of the whole; null: endless. */
export function scriptOf(scenes, fps, frames) {
  const open = frames === null || frames === undefined;
  const whole = frames ?? null;
  const known = scenes.map((one) => (one.frames ?? (one.seconds ? Math.round(one.seconds * fps) : null)));
  const given = known.reduce((sum, one) => sum + (one ?? 0), 0);
  const unknown = known.filter((one) => one === null).length;
  const share = open ? 5 * fps : Math.max(1, (whole - given) / Math.max(1, unknown));
  const made = scenes.map((one, i) => scene(one.prompt, known[i] ?? share, one.cut ?? false, one.lora));
  const script = { fps, endless: open, scenes: made };
  const off = open ? 0 : whole - total(script);
  if (off && starts(script).at(-1) + made.at(-1).frames + off > starts(script).at(-1)) made[made.length - 1] = { ...made.at(-1), frames: made.at(-1).frames + off };
  return script;
}
