// The words of the page in English. Every other file of words has the same keys; a test compares them.
export default {
  // the shell
  skip: "Skip to the video",
  create: "Create", library: "Library", queue: "Queue",
  theme: "Light or dark", language: "Language", keys: "Keyboard shortcuts", close: "Close",
  memoryOf: "{used} of {total}", noDevice: "no device known",
  gone: "The server does not answer. What is buffered still plays; the page goes on by itself as soon as the server is back.",
  back: "The server is back.",
  undo: "Undo", redo: "Redo", cancel: "Cancel", apply: "Apply", details: "Details", copy: "Copy", copied: "Copied.",
  kept: "Kept: {what}",

  // composer
  newVideo: "New video", examples: "Examples", composer: "Video to make", prompt: "Prompt", promptHint: "What the video shows",
  scenePrompt: "Scene {n}", addScene: "Add a scene", removeScene: "Remove scene {n}", secondsOf: "Seconds of scene {n}",
  negative: "Negative prompt", negativeHint: "What it must not show",
  model: "Model", chooseModel: "Choose a model", builtIn: "built in", here: "on this machine", absent: "not here",
  download: "Download {size}", downloading: "Downloading: {share} %", licence: "Licence: {name}",
  needs: "needs {size}", fits: "fits in {size}", tooBig: "needs {needs}, this machine has {has}: choose a smaller model or size, or let it offload",
  takesImage: "takes an image", needsImage: "needs a first image", modelNative: "{size} · {fps} fps",
  size: "Size", sizeOwn: "Model's own", sizeImage: "Like the image", width: "Width", height: "Height", portrait: "Portrait", landscape: "Landscape", square: "Square",
  cropped: "The image is cropped to {size}; the bright part is used.",
  length: "Length", endless: "Endless", seconds: "s",
  seed: "Seed", roll: "New random seed", lockSeed: "Keep this seed for every video", variations: "Variations",
  firstImage: "First image", lastImage: "Last image", dropImage: "drop, paste or choose", removeImage: "Remove {name}",
  loras: "LoRAs", addLora: "Add a LoRA", strength: "Strength of {name}", noLoras: "No LoRA found. Name their folder with --models-dir.",
  strategy: "Strategy", strategyAuto: "Model's own", more: "More settings", moreHint: "steps, guidance, negative prompt",
  steps: "Steps", guidance: "Guidance scale", auto: "model's own", fps: "Frames per second",
  toMake: "to make", memory: "memory", disk: "disk", perMinute: "per minute", unknownCost: "unknown before a first run",
  make: "Make video", makeN: "Make {n} videos", making: "Sent.", example: "a red ball drifts to the right over the sea",
  settingsRestored: "The settings of {name} are in the form.", reset: "Start over",

  // player
  video: "Video", play: "Play", pause: "Pause", frameBack: "One frame back", frameOn: "One frame on", sceneBack: "Previous scene", sceneOn: "Next scene",
  live: "Live", behind: "{time} behind", toLive: "Go to the live edge", loop: "Loop", full: "Full screen", exportRange: "Export", compare: "Compare",
  stop: "Stop", resume: "Resume", stopping: "Stopping after this segment", remove: "Delete",
  markIn: "Set in point", markOut: "Set out point", clearMarks: "Clear in and out points", position: "Position",
  segment: "Segment {k} of {n}", segmentEndless: "Segment {k}", step: "step {i} of {m}", fpsNow: "{fps} fps", toGo: "{time} to go",
  emptyTitle: "Type a prompt, press Make video", emptyText: "The video plays here while it is being made. Stop it, change what has not begun, and go on: nothing that you saw is lost.",
  waitingTitle: "Waiting for {n} videos before it", waitingNext: "It is next", startingTitle: "Loading the model", previewTitle: "First frames are being denoised",
  stoppedTitle: "Stopped", failedTitle: "It did not work", keptSeconds: "{time} of video",
  done: "Done", rangeHint: "Set the in point with I and the out point with O to choose a part.", useThis: "Use this model", getWith: "Get it in a shell:", copyCommand: "Copy the command", rangeTitle: "Export a part", rangeText: "From {from} to {to}, {n} frames.", asMp4: "Video (mp4)", asGif: "Animation (GIF)", asPng: "Frames (PNG, zipped)",

  // timeline
  timeline: "Timeline", draft: "Draft", scenes: "Scenes", frames: "Frames", plan: "Plan",
  zoomIn: "Zoom in", zoomOut: "Zoom out", fit: "Show all", snap: "Snap to borders", follow: "Follow the play head",
  split: "Split at the play head", insert: "Insert a scene", duplicate: "Duplicate", earlier: "Move earlier", later: "Move later", removeThis: "Remove the scene",
  made: "made", beingMade: "being made, {share} %", fixed: "fixed", free: "editable",
  border: "Border", borderKind: "How scene {n} begins", go: "go on", cut: "cut", anchor: "keep the anchor", resample: "re-sample",
  goAbout: "The shot goes on; only the prompt changes.", cutAbout: "A new shot, without context.",
  anchorAbout: "A new shot that begins with the first frame of the shot before.", resampleAbout: "A new shot that begins with that frame, denoised again under the new prompt.",
  borderValue: "Scene {n} of {of} ends at {time} seconds", sceneOf: "Scene {n} of {of}: ",
  refused: "This part has begun and can no longer change. The first time that can is {time}.", refusedShorter: "A running video cannot become shorter. Stop it where it should end.",
  applyFrom: "Apply from {time}", tooLate: "Too late for this scene", editedElsewhere: "Another page changed this scene meanwhile.", theirs: "There: {text}", mine: "Here: {text}", keepTheirs: "Keep that",
  moved: "Scene {n} moved to position {to} of {of}.", importScript: "Open a script", exportToml: "Save as .toml", exportLines: "Save prompts, one per line",
  planSummary: "{done} of {n} windows are done.", framesSummary: "{time} of frames are made.", firstChange: "editable from here",

  // queue and library
  queueEmpty: "Nothing waits.", queueEmptyText: "Videos that you make one after another line up here, in the order that you give them.",
  running: "running", waiting: "waiting", stopped: "stopped", failed: "failed", completed: "done",
  libraryEmpty: "No video yet.", libraryEmptyText: "Every video that you make, here or on the command line in this folder, is kept here.",
  search: "Search prompts", sortBy: "Sort by", newest: "Newest", oldest: "Oldest", longest: "Longest", prompts: "Prompt", onlyStarred: "Starred only",
  star: "Star", unstar: "Remove the star", open: "Open", extend: "Extend", again: "Again, another seed", select: "Select for comparison", copyForm: "Use these settings",
  found: "{n} videos", found_one: "{n} video", loadMore: "Show more", deleted: "Deleted.", restore: "Undo",
  compareTitle: "Side by side", compareTwo: "Select two videos to compare.", differing: "Settings that differ", same: "The settings are equal.",
  extendTitle: "Extend", extendText: "Continue this video. The new part is joined to its end.", extendBy: "Seconds to add",
  deleteRunning: "This video is being made. Delete it?", deleteIt: "Delete it", dropFile: "Drop a video of longtake to restore its settings, or an image to begin with",


  // keyboard
  keysTitle: "Keyboard", keysOff: "Single-letter keys", keysText: "None of them acts while you type.",
  kPlay: "Play or pause", kShuttle: "Back, stop, forward; again: twice as fast", kFrame: "One frame; with Shift one second", kScene: "Previous or next scene border",
  kEnds: "Begin and end (live edge)", kMarks: "In and out point; Alt+X clears them", kUndo: "Undo and redo", kZoom: "Zoom; \\ shows all", kSplit: "Split at the play head",
  kMake: "Make the video", kFull: "Full screen", kEsc: "Close, deselect", kHelp: "This list", kDelete: "Remove the selected scene", kReorder: "Move the scene in the order", kNew: "New video",

  // errors
  eUnreachable: "The server does not answer. Nothing is lost: the worker goes on without the page.",

};
