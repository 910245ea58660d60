// The words of the page in the user's language. A file of words per language holds them all; English stands in for a gap.
import en from "../../words/en.js";

const LANGUAGES = { en: async () => en, zh: async () => (await import("../../words/zh.js")).default };
let words = en;
let language = "en";

/** Return the language to begin with: the one chosen before, or the first of the browser's that the page speaks. */
export function preferred(chosen, wanted) {
  if (chosen in LANGUAGES) return chosen;
  return wanted.map((name) => name.slice(0, 2).toLowerCase()).find((name) => name in LANGUAGES) ?? "en";
}

/** Load a language and speak it from now on. */
export async function speak(name) {
  words = await LANGUAGES[name]();
  language = name;
  document.documentElement.lang = name;
}

export const spoken = () => language;
export const languages = () => Object.keys(LANGUAGES);

/**
 * Return the words for a key, with {name} replaced by values. A value `n` of 1 takes the key with "_one" where there is one.
 * @param {string} key
 * @param {Record<string, string | number>} values
 */
export function t(key, values = {}) {
  const one = values.n === 1 ? words[`${key}_one`] ?? en[`${key}_one`] : undefined;
  const text = one ?? words[key] ?? en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}
