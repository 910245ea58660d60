// What the server sends, as the page keeps it. The one file that knows the names of the wire.

const number = (value) => (value === undefined || value === null || value === "" ? null : Number(value));

/** A video of the list, of an answer or of an event. */
export function videoOf(wire) {
  const [width, height] = String(wire.size ?? "").split("x").map(Number);
  const fps = number(wire.fps);
  const seconds = number(wire.seconds);
  const known = number(wire.num_frames) ?? (seconds && Math.round(seconds * (fps ?? 24)));
  const frames = wire.endless && !wire.stopped ? null : known ?? 0;
  return {
    id: wire.id,
    status: wire.status === "in_progress" ? wire.state ?? "running" : wire.state ?? wire.status,
    stopped: !!wire.stopped,
    model: wire.model,
    prompt: wire.prompt ?? "",
    fps,
    frames,
    made: number(wire.frames_done) ?? (wire.status === "completed" ? frames ?? 0 : 0),
    segments: number(wire.segments_done) ?? 0,
    width: width || null,
    height: height || null,
    seed: number(wire.seed),
    created: wire.created_at ?? 0,
    completed: wire.completed_at ?? null,
    position: number(wire.position) ?? 0,
    bytes: number(wire.bytes),
    error: wire.error ?? null,
    starred: !!wire.starred,
    origin: wire.origin ?? null,
    settings: wire.settings ?? null,
  };
}

/** Whether a model takes a first image: "no", "optional" or "needed". */
function takesImage({ id, kind }) {
  if (kind === "t2v" || kind === "toy") return "no";
  return kind === "i2v" || /(^|[-_])i2v([-_]|$)/.test(id) ? "needed" : "optional";
}

/** A model of the list. */
export function modelOf(wire) {
  const [width, height] = String(wire.size ?? "").split("x").map(Number);
  const { weights = null, stated_peak: peak = null } = wire.memory_gb ?? {};
  const image = takesImage(wire);
  return {
    id: wire.id,
    kind: wire.kind ?? "",
    about: wire.description ?? wire.repository ?? "",
    here: wire.here !== false,
    builtIn: wire.kind === "built-in",
    size: height ? [height, width] : null, // in pixels; null: the checkpoint does not say
    multiple: wire.size_multiple ?? [16, 16],
    fps: number(wire.fps) ?? 24,
    strategy: wire.strategy ?? "",
    memory: peak ?? weights ? (peak ?? weights) * 1e9 : null,
    bytes: number(wire.bytes),
    licence: wire.licence ?? "",
    image,
    lastImage: image === "optional",
    steps: number(wire.num_inference_steps),
    guidance: number(wire.guidance_scale),
    download: wire.download ?? null, // {running, bytes, total}
  };
}
