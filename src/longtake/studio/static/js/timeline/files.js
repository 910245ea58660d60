// Scripts as files: the .toml that `longtake generate --script` reads, and a prompt per line. The server reads files in.

const KINDS = { true: "true", false: "false" };

/** Text in the quotes of TOML: JSON's escapes are a part of TOML's. */
const quoted = (text) => JSON.stringify(text).replace(/\u007f/g, "\\u007f");

/** Write a script as .toml, with the length of each scene in seconds. */
export function toToml(script) {
  const last = script.scenes.length - 1;
  const tables = script.scenes.map((one, i) => {
    const lines = ["[[scene]]", `prompt = ${quoted(one.prompt)}`];
    if (!(script.endless && i === last)) lines.push(`seconds = ${+(one.frames / script.fps).toFixed(6)}`);
    if (one.cut) lines.push(`cut = ${KINDS[one.cut] ?? quoted(one.cut)}`);
    if (one.lora?.length) lines.push(`lora = [${one.lora.map(([name, s]) => `[${quoted(name)}, ${s}]`).join(", ")}]`);
    return lines.join("\n");
  });
  return tables.join("\n\n") + "\n";
}

/** Write a prompt per line, as Wan2GP and `longtake generate --script prompts.txt` read them. */
export function toLines(script) {
  return script.scenes.map((one) => one.prompt.replace(/\s*\n\s*/g, " ").replace(/^#/, " #")).join("\n") + "\n";
}
