// The calls of the page, each with what it needs of the answer.
import { formOf, scriptOf } from "../composer/form.js";
import { modelOf, videoOf } from "./shapes.js";
import { comparable, fieldsOf } from "./settings.js";

const FPS = 24; // until a video has begun and says its own
const path = (id, rest = "") => `/v1/videos/${encodeURIComponent(id)}${rest}`;

/** Addresses of pictures and media. */
export const urls = {
  stream: (id, from) => path(id, `/stream?from=${Math.max(0, from).toFixed(3)}`),
  content: (id) => path(id, "/content"),
  thumbnail: (id) => path(id, "/content?variant=thumbnail"),
  frame: (id, frame) => path(id, `/frames/${frame}`),
  preview: (id, version) => path(id, `/preview?if_any=1&v=${version}`),
  range: (id, from, to, kind) => path(id, `/range?from=${from}&to=${to}&format=${kind}`),
};

/** @param {ReturnType<import("./client.js").createClient>} client */
export function createVideos(client) {
  const video = async (answer) => videoOf(await answer);
  /** Form and script of the settings of a video. */
  async function requested(id, form) {
    const { settings, fps, frames } = await client.get(path(id, "/settings"));
    return formOf(fieldsOf(settings), fps ?? FPS, frames ?? (settings.endless ? null : Math.round((settings.seconds ?? 5) * (fps ?? FPS))), form);
  }

  return {
    async list(after = null) {
      const found = await client.get(`/v1/videos?limit=100&order=desc${after ? `&after=${encodeURIComponent(after)}` : ""}`);
      return { videos: found.data.map(videoOf), more: found.has_more, last: found.last_id };
    },
    get: (id) => video(client.get(path(id))),
    create: (body) => video(client.post("/v1/videos", body, { headers: { "idempotency-key": crypto.randomUUID() } })),
    stop: (id) => video(client.post(path(id, "/stop"))),
    resume: (id) => video(client.post(path(id, "/resume"))),
    remove: (id) => client.delete(path(id)),
    restore: (id) => video(client.post(path(id, "/restore"))),
    star: (id, on) => video(client.post(path(id, "/star"), { starred: on })),
    moveTo: (id, place) => client.post(path(id, "/move"), { place }),
    extend: (id, prompt, seconds) => video(client.post("/v1/videos/extensions", { prompt, seconds: String(seconds), video: { id } })),

    /** The script of a video {id, fps, frames}: as the page has scripts, with the first frame that can change. */
    async script({ id, fps, frames }) {
      const found = await client.get(path(id, "/script"));
      if (found.scenes[0]?.start === null) return { script: (await requested(id)).script, earliest: 0, pending: 0 }; // it waits
      const script = scriptOf(found.scenes.map((one, i) => sceneOf(one, found.scenes[i + 1], fps, frames)), fps, frames);
      return { script, earliest: Math.round(found.earliest * fps), pending: found.pending.length };
    },
    /** Request edits in frames; the server counts in seconds. */
    edit: (id, edits, fps) => client.patch(path(id, "/script"), { edits: edits.map((one) => wireEdit(one, fps)) }),
    windows: async (id) => (await client.get(`/studio/windows/${id}`)).windows,
    readScript: (name, text) => client.post("/v1/scripts", { name, text }),

    settings: requested,
    comparable: async (id) => comparable((await client.get(path(id, "/settings"))).settings),
    async inspect(file, form) {
      const body = new FormData();
      body.append("file", file);
      const { settings, fps, frames } = await client.post("/v1/inspect", body);
      return formOf(fieldsOf(settings), fps, frames, form);
    },
    upload(file) {
      const body = new FormData();
      body.append("file", file);
      return client.post("/v1/uploads", body);
    },

    cost: (body, signal) => client.post("/studio/cost", body, { signal }),
    memory: async (body, signal) => (await client.post("/v1/plan", body, { signal })).memory_bytes?.peak ?? null,
    models: async () => (await client.get("/v1/models")).data.filter((one) => one.kind !== "toy").map(modelOf),
    loras: async () => (await client.get("/v1/loras")).data,
    studio: () => client.get("/studio/facts"),
    download: (id) => client.post(`/v1/models/${encodeURIComponent(id)}/download`),
    cancelDownload: (id) => client.delete(`/v1/models/${encodeURIComponent(id)}/download`),
  };
}

/** A scene of the server in frames: its start and that of the next one give its length. */
function sceneOf(one, next, fps, frames) {
  const at = (row) => Math.round(row.start * fps);
  const end = next ? at(next) : frames;
  const cut = { cut: true, new: true, anchor: "anchor", resample: "resample" }[one.did] ?? false;
  const known = one.start !== null && end !== null;
  return { prompt: one.prompt, cut, frames: known ? end - at(one) : null, seconds: null };
}

function wireEdit({ op, at, frames, prompt, cut }, fps) {
  const edit = { op, prompt, cut };
  if (at !== null) edit.at = at / fps;
  if (frames) edit.seconds = frames / fps;
  return edit;
}
