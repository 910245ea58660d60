// Small pictures of frames for the timeline: fetched when they are shown, at most a few at a time, the oldest forgotten.
const MOST = 400;
const AT_ONCE = 3;

export function createThumbs(urls) {
  const pictures = new Map(); // key -> ImageBitmap, or null while it loads
  const waiting = [];
  const readers = new Set();
  let running = 0;

  async function next() {
    if (running >= AT_ONCE || !waiting.length) return;
    const { key, url } = waiting.pop(); // the newest wish is what is on the screen
    running += 1;
    try {
      const answer = await fetch(url, { credentials: "same-origin" });
      if (!answer.ok) throw new Error(String(answer.status));
      pictures.set(key, await createImageBitmap(await answer.blob()));
      for (const read of readers) read();
    } catch {
      setTimeout(() => pictures.delete(key), 2000); // tried again when it is shown then
    }
    running -= 1;
    next();
  }

  return {
    onLoad: (read) => readers.add(read),

    /** The picture of a time of a video, of which there is one every `step` seconds; null while it is not here. */
    at(video, second, fps, step) {
      const frame = Math.floor(Math.floor(second / step) * step * fps);
      const key = `${video.id}/${frame}`;
      if (!pictures.has(key)) {
        pictures.set(key, null);
        waiting.push({ key, url: urls.frame(video.id, frame) });
        if (waiting.length > 60) pictures.delete(waiting.shift().key);
        if (pictures.size > MOST) pictures.delete(pictures.keys().next().value);
        next();
      }
      return pictures.get(key);
    },
  };
}
