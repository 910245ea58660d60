// The player: one <video>, fed by the stream while a video is being made, and by the finished file afterwards.
import { Feed, rangesOf } from "./feed.js";
import { frameAt, middleOf, shuttle } from "./shuttle.js";

const LIVE = 1.5; // seconds behind the newest frame that still count as live
const TICK = 80; // milliseconds between two pictures when playing backwards

export class Player extends EventTarget {
  /** @param {HTMLVideoElement} video @param {object} urls stream(id, from), content(id) */
  constructor(video, urls) {
    super();
    Object.assign(this, { video, urls, fps: 24, made: 0, whole: 0, speed: 0, feed: null, id: null });
    this.marks = { from: null, to: null, loop: false };
    for (const name of ["play", "pause", "seeked", "loadeddata", "ended", "ratechange"]) video.addEventListener(name, () => this._tell());
    video.addEventListener("ended", () => this._atEnd());
    this._frame = () => {
      this._tell();
      this._keepRange();
      this._watch();
    };
    this._watch();
    document.addEventListener("visibilitychange", () => this._onVisibility());
  }

  /** Show a video. running: it is being made, so follow its stream. at: second to begin at. */
  open({ id, fps, running, at = 0, play = true }) {
    this.close();
    Object.assign(this, { id, fps, running, following: running });
    if (running) {
      this.feed = new Feed(this.video, (from, signal) => this._stream(id, from, signal), { made: () => this.made, onState: (state) => this._onFeed(state) });
      this.feed.start(at);
    } else {
      this.video.src = this.urls.content(id);
      if (at) this.video.currentTime = at;
    }
    if (play) this.play();
  }

  close() {
    clearInterval(this.timer);
    this.feed?.close();
    this.feed = null;
    this.id = null;
    this.speed = 0;
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
    this._tell();
  }

  async _stream(id, from, signal) {
    const answer = await fetch(this.urls.stream(id, from), { signal, credentials: "same-origin" });
    if (!answer.ok) throw new Error(`the stream answers ${answer.status}`);
    return answer;
  }

  _onFeed(state) {
    this.dispatchEvent(new CustomEvent("feed", { detail: state }));
  }

  /** Seconds on disk, and of the whole video (null: endless). */
  setLengths(made, whole) {
    Object.assign(this, { made, whole });
    if (this.video.ended && made > this.video.currentTime + 0.2 && this.wanted) this.play();
  }

  get time() {
    return this.video.currentTime || 0;
  }

  get frame() {
    return frameAt(this.time, this.fps);
  }

  get playing() {
    return this.speed < 0 || (!this.video.paused && !this.video.ended);
  }

  get live() {
    return this.running && this.made - this.time < LIVE;
  }

  get end() {
    return Math.max(this.made, this.running ? 0 : this.video.duration || 0);
  }

  play(rate = 1) {
    clearInterval(this.timer);
    this.wanted = true;
    this.speed = rate;
    this.video.playbackRate = rate;
    if (!this.running && this.time >= this.end - 1 / this.fps) this.video.currentTime = this.marks.from ?? 0;
    this.video.play().catch(() => this._tell());
  }

  pause() {
    clearInterval(this.timer);
    this.wanted = false;
    this.speed = 0;
    this.video.pause();
    this._tell();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  /** J, K or L. L at the end of what is made goes on live. */
  shuttle(key) {
    const speed = shuttle(this.playing ? this.speed : 0, key);
    if (speed === 0) this.pause();
    else if (speed > 0) this.play(speed);
    else this._backwards(speed);
  }

  _backwards(speed) {
    this.video.pause();
    clearInterval(this.timer);
    this.speed = speed;
    this.timer = setInterval(() => {
      if (this.time <= 0) this.pause();
      else if (!this.video.seeking) this.video.currentTime = Math.max(0, this.time + (speed * TICK) / 1000);
    }, TICK);
    this._tell();
  }

  seek(second) {
    const last = Math.max(0, this.end - 0.5 / this.fps);
    this.video.currentTime = Math.min(Math.max(0, second), last);
    this._tell();
  }

  step(frames) {
    this.pause();
    this.seek(middleOf(Math.max(0, this.frame + frames), this.fps));
  }

  goLive() {
    this.seek(Math.max(0, this.made - 0.4));
    this.play();
  }

  /** Stop at the out point, or go back to the in point. */
  _keepRange() {
    const { from, to, loop } = this.marks;
    if (to !== null && this.speed > 0 && this.time >= to - 0.5 / this.fps && this.time < to + 0.5) {
      if (loop) this.video.currentTime = from ?? 0;
      else this.pause();
    }
  }

  _atEnd() {
    if (this.marks.loop && !this.running) {
      this.video.currentTime = this.marks.from ?? 0;
      this.video.play();
    }
  }

  /** A hidden page reads no stream: six connections are all that a browser has for a server. */
  _onVisibility() {
    if (!this.feed) return;
    if (document.hidden) this.feed.pause();
    else this.feed.resume();
  }

  get buffered() {
    return rangesOf(this.video.buffered);
  }

  _watch() {
    if ("requestVideoFrameCallback" in this.video) this.video.requestVideoFrameCallback(this._frame);
    else this.video.addEventListener("timeupdate", this._frame, { once: true });
  }

  _tell() {
    this.dispatchEvent(new Event("time"));
  }
}
