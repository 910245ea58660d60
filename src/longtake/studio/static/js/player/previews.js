// The preview of the steps of the first window, while a video has no picture yet: at most two a second, and only if seen.
const APART = 500; // milliseconds

export function createPreviews(app) {
  const shown = new Map(); // id -> object URL
  let last = 0;
  let busy = false;

  return {
    url: (id) => shown.get(id) ?? null,

    /** A step is done: fetch its preview if the viewer would show it. */
    async stepped(id) {
      const state = app.store.get();
      const video = state.videos[id];
      if (busy || document.hidden || state.open !== id || !video || video.made || performance.now() - last < APART) return;
      busy = true;
      last = performance.now();
      try {
        const answer = await fetch(app.urls.preview(id, Math.round(last)), { credentials: "same-origin" });
        if (answer.ok && answer.status === 200) {
          const url = URL.createObjectURL(await answer.blob());
          if (shown.has(id)) URL.revokeObjectURL(shown.get(id));
          shown.set(id, url);
          app.store.set((now) => ({ videos: { ...now.videos } }));
        }
      } catch {
        // the banner says that the server is gone
      }
      busy = false;
    },

    forget(id) {
      if (shown.has(id)) URL.revokeObjectURL(shown.get(id));
      shown.delete(id);
    },
  };
}
