// Puts the stream of a video into a <video> while the video is being made, and keeps only some minutes of it in memory.
import { AHEAD, bufferedUntil, evictions, holds, overGap } from "./buffer.js";

const RETRY = 1000; // milliseconds before a stream that broke is opened again
const once = (target, name) => new Promise((done) => target.addEventListener(name, done, { once: true }));
export const rangesOf = (buffered) => Array.from({ length: buffered.length }, (_, i) => [buffered.start(i), buffered.end(i)]);

/**
 * @param {HTMLVideoElement} video
 * @param {(from: number, signal: AbortSignal) => Promise<Response>} open the stream from a second on
 * @param {{type?: string, made?: () => number}} options type: with the codec, if the answer does not say it; made: seconds on disk
 */
export class Feed {
  constructor(video, open, { type = "", made = () => Infinity, onState = () => {} } = {}) {
    Object.assign(this, { video, open, type, made, onState });
    this.source = new MediaSource();
    this.generation = 0; // of the stream that is being read; an older one stops by itself
    this.ended = false;
    this.closed = false;
    this.wanted = null; // where to go once the first bytes are here
    this.url = URL.createObjectURL(this.source);
    video.src = this.url;
    this._seeking = () => this._onSeek();
    this._waiting = () => this._onWaiting();
    video.addEventListener("seeking", this._seeking);
    video.addEventListener("waiting", this._waiting);
  }

  /** Begin to read at a second. */
  async start(from = 0) {
    if (this.source.readyState !== "open") await once(this.source, "sourceopen");
    if (!this.closed) this._read(from);
  }

  /** Read no more: the page is hidden, or the player shows another video. What is buffered stays. */
  pause() {
    this.generation += 1;
    this.abort?.abort();
  }

  /** Go on behind what is buffered at the play head. */
  resume() {
    if (!this.closed && !this.ended) this._read(bufferedUntil(this.ranges, this.video.currentTime));
  }

  close() {
    this.closed = true;
    this.pause();
    this.video.removeEventListener("seeking", this._seeking);
    this.video.removeEventListener("waiting", this._waiting);
    URL.revokeObjectURL(this.url);
  }

  get ranges() {
    return this.buffer ? rangesOf(this.buffer.buffered) : [];
  }

  async _read(from) {
    const mine = (this.generation += 1);
    this.wanted = from;
    this.abort?.abort();
    this.abort = new AbortController();
    this.ended = false;
    try {
      const answer = await this.open(from, this.abort.signal);
      if (mine !== this.generation) return;
      await this._prepare(answer.headers.get("content-type"));
      const reader = answer.body.getReader();
      this.onState("reading");
      for (;;) {
        const { value, done } = await reader.read();
        if (mine !== this.generation) return;
        if (done) break;
        await this.append(value);
        if (mine !== this.generation) return;
        await this._roomAhead(mine);
      }
      this.ended = true;
      this._finish();
    } catch (error) {
      if (mine !== this.generation || error.name === "AbortError") return;
      this.onState("broken");
      setTimeout(() => mine === this.generation && this.resume(), RETRY);
    }
  }

  async _prepare(type) {
    const kind = type?.includes("codecs") ? type : this.type;
    if (this.buffer) {
      if (this.source.readyState === "open") this.buffer.abort(); // drop the half segment of the stream before
      return;
    }
    this.buffer = this.source.addSourceBuffer(kind);
  }

  /** Append bytes, after removing what lies far from the play head. */
  async append(bytes) {
    await this._evict(evictions(this.ranges, this.video.currentTime));
    try {
      this.buffer.appendBuffer(bytes);
    } catch (error) {
      if (error.name !== "QuotaExceededError") throw error;
      await this._evict(evictions(this.ranges, this.video.currentTime, 20, 20));
      this.buffer.appendBuffer(bytes);
    }
    await this._settled();
    this._reachStart();
  }

  /** Go to where the stream begins, if the play head stands outside of all that is here. */
  _reachStart() {
    if (this.wanted === null || !this.ranges.length) return;
    const second = this.wanted;
    this.wanted = null;
    if (!holds(this.ranges, this.video.currentTime)) this.video.currentTime = Math.max(second, this.ranges.at(-1)[0] + 0.001);
  }

  async _evict(ranges) {
    for (const [start, end] of ranges) {
      await this._settled();
      this.buffer.remove(start, end);
      await this._settled();
    }
  }

  _settled() {
    return this.buffer.updating ? once(this.buffer, "updateend") : Promise.resolve();
  }

  /** Wait until less than a minute is buffered ahead of the play head. */
  async _roomAhead(mine) {
    while (mine === this.generation && bufferedUntil(this.ranges, this.video.currentTime) - this.video.currentTime > AHEAD) {
      await Promise.race([once(this.video, "timeupdate"), once(this.video, "seeking")]);
    }
  }

  _finish() {
    if (this.source.readyState === "open" && !this.buffer.updating) this.source.endOfStream();
    this.onState("ended");
  }

  _onSeek() {
    const second = this.video.currentTime;
    if (this.buffer && !holds(this.ranges, second) && second < this.made()) this._read(second);
  }

  _onWaiting() {
    const next = overGap(this.ranges, this.video.currentTime);
    if (next !== null) this.video.currentTime = next;
  }
}
