// The state of the page in one object. Whoever changes it calls `set`; whoever shows it subscribes to the parts that it reads.

/**
 * @template T
 * @param {T} initial
 */
export function createStore(initial) {
  let state = initial;
  const readers = new Set();
  let waiting = null;

  function flush() {
    const before = waiting;
    waiting = null;
    for (const { parts, read } of [...readers]) {
      if (parts.some((part) => before[part] !== state[part])) read(state, before);
    }
  }

  return {
    get: () => state,

    /** Merge a patch, or what a function makes of the state. Readers are called once after all changes of a task. */
    set(patch) {
      const next = typeof patch === "function" ? patch(state) : patch;
      if (waiting === null) {
        waiting = state;
        queueMicrotask(flush);
      }
      state = { ...state, ...next };
    },

    /** Call `read(state, before)` whenever one of the parts has become another value. Returns a function that ends it. */
    on(parts, read) {
      const reader = { parts, read };
      readers.add(reader);
      return () => readers.delete(reader);
    },
  };
}
