// Settings as the fields of a request: those that a run or a video file carries, or those of a request itself. Pure.

const DIRECT = ["strategy", "negative_prompt", "seed", "num_inference_steps", "guidance_scale", "width", "height"];
const KEPT = ["solver", "shift", "sigma_spacing", "sigmas"]; // options without a field in the form

/** @param {object} settings {script, sampling, ...} as video.mp4 carries them, or flat as a request has them */
export function fieldsOf(settings) {
  const carried = !!settings.script;
  const all = carried ? { ...settings, ...settings.sampling } : settings;
  const found = { model: modelName(settings.model), prompt: settings.prompt };
  for (const name of DIRECT) if (all[name] !== undefined && all[name] !== null) found[name] = all[name];
  found.scenes = carried ? scenesOf(settings.script) : settings.scenes;
  found.loras = carried ? settings.script.scenes[0]?.lora ?? [] : settings.loras ?? [];
  found.other = { ...pick(all, KEPT), ...pick(settings.strategy_options ?? {}) };
  return found;
}

const modelName = (model) => (typeof model === "object" && model ? model.preset ?? model.name : model);

/** The scenes of a recorded script in frames; of an endless one the last has none. */
function scenesOf({ scenes, starts, frames }) {
  const ends = [...starts.slice(1), frames];
  return scenes.map((one, i) => ({ ...one, seconds: null, frames: ends[i] === null ? null : ends[i] - starts[i] }));
}

function pick(values, names = Object.keys(values)) {
  const known = names.filter((name) => values[name] !== undefined && values[name] !== null && values[name] !== "");
  return Object.fromEntries(known.map((name) => [name, values[name]]));
}

/** Settings as rows for a comparison, under the names that requests use. */
export function comparable(settings) {
  const { scenes, prompt, loras, other, ...rest } = fieldsOf(settings);
  const shown = scenes ?? [{ prompt }];
  const rows = { model: rest.model, prompt: shown.map((one) => one.prompt).join("\n"), seed: 0, ...rest };
  if (shown.length > 1) rows.borders = shown.map((one) => String(one.cut || "go on")).join(", ");
  if (loras.length) rows.loras = loras.map(([name, strength]) => `${name} ${strength}`).join(", ");
  return { ...rows, ...other };
}
